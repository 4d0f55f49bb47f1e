"""Whatever a page tells the reader to run, to set or to open is there."""

import json
import re
from pathlib import Path

import pytest

from service.schemas import Neighbourhood
from tests.scripts.helptext import COMMANDS, SCRIPTS, called, options

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SAID = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES if page.name != "CHANGELOG.md"}
OTHERS = {"--help", "--strict", "--logdir", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"}
OTHERS |= {"--target", "--network", "--rm", "--volume"}  # docker's
OTHERS |= {"--data-binary"}  # curl's
SOURCES = [file for name in ("model", "index", "service", "scripts") for file in (ROOT / name).rglob("*.py")]


@pytest.mark.parametrize("page", SAID)
def test_every_script_and_every_flag_of_a_command_exists(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = SAID[page].replace("\\\n", " ")
    for script, words in re.findall(r"scripts/(\w+)\.py([^`\n]*)", commands):
        assert script in {*SCRIPTS, "command"}
        if flags := re.findall(r"(--[a-z][a-z-]*)", words):
            subcommand = words.split()[:1] if script == "benchmark" else []
            called((script, *subcommand, "--help"), monkeypatch)
            assert not set(flags) - set(options(capsys.readouterr().out)), f"{script}.py has no such flag"


def test_every_flag_that_the_text_speaks_of_is_a_scripts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in COMMANDS:
        called((*command, "--help"), monkeypatch)
    known = set(options(capsys.readouterr().out)) | OTHERS
    flags = {(flag, page) for page, text in SAID.items() for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert {(flag, page) for flag, page in flags if flag not in known} == set()


@pytest.mark.parametrize("page", SAID)
def test_every_file_that_is_linked_or_named_exists(page: str) -> None:
    links = [(ROOT / page).parent / name for name in re.findall(r"\]\(([^)#:]+)\)", SAID[page])]
    named = [ROOT / name for name in re.findall(r"\b(?:model|index|service|scripts|tests)/[\w/]+\.py", SAID[page])]
    assert not [str(file) for file in [*links, *named] if not file.exists()]


@pytest.mark.parametrize("page", SAID)
def test_every_make_target_exists(page: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|    )make ([a-z-]+)", SAID[page])) <= set(targets)


@pytest.mark.parametrize("page", SAID)
def test_every_variable_is_read_somewhere(page: str) -> None:
    fields = {field.upper() for file in SOURCES for field in re.findall(r"^    (\w+):", file.read_text(), re.MULTILINE)}
    assert set(re.findall(r"FC7_([A-Z_0-9]+)", SAID[page])) <= fields


def test_the_readmes_answer_has_the_services_form() -> None:
    (answer,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", SAID["README.md"], re.DOTALL))
    assert Neighbourhood.model_validate(answer, strict=True).model_dump(mode="json") == answer
