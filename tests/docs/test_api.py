"""The commands and the Python of docs/api.md run as they stand, against a real service; its tables are complete."""

import doctest
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.make_key import MakeKey, make_key
from service.app import create_app
from service.errors import FRAMEWORK, KINDS
from service.settings import Settings
from tests.end_to_end.served import Served, served
from tests.service.bundles import build, image_file

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
COMMANDS = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)
ADDRESS = "http://127.0.0.1:8000"
SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's commands find where they are run."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "image.jpg").write_bytes(image_file(1000))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[tuple[Served, str]]:
    """A service that asks for a key, and the key."""
    bundle, said = build(folder, kind="pca"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", said.append)
        make_key(MakeKey(keys=folder / "keys", name="ann", roles=("admin",)))
    with served("--bundle", str(bundle), "--keys", str(folder / "keys")) as running:
        yield running, said[0]


@pytest.mark.slow
def test_every_command_is_answered(service: tuple[Served, str], folder: Path) -> None:
    running, key = service
    (folder / ".curlrc").write_text(f'fail-with-body\nsilent\nshow-error\nheader = "Authorization: Bearer {key}"\n')
    environment = {**os.environ, "HOME": str(folder), "CURL_HOME": str(folder), "KEY": key}
    for command in COMMANDS:
        local = command.replace(ADDRESS, running.address)
        done = subprocess.run(
            local, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        if "/many" in command:
            assert [one["status"] for one in json.loads(done.stdout)["results"]] == [200, 400]
        elif " -o " not in command and "/metrics" not in command:
            assert json.loads(done.stdout)
    assert len((folder / "features").read_bytes()) == 4 * 4096
    assert (folder / "thumbnail").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_python_prints_what_it_says(
    service: tuple[Served, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, key = service
    monkeypatch.chdir(folder)
    text = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    text = text.replace(f'"{ADDRESS}"', f'"{running.address}", key="{key}"')
    failures: list[str] = []
    test = doctest.DocTestParser().get_doctest(text, {}, "api.md", "api.md", 0)
    done = doctest.DocTestRunner().run(test, out=failures.append)
    assert (done.failed, failures) == (0, [])
    assert done.attempted > 12


def test_every_route_has_a_command() -> None:
    routes = {(method, path) for path, of in create_app(Settings()).openapi()["paths"].items() for method in of}
    called = set()
    for command in COMMANDS:
        path = re.sub(r"/images/\d+", "/images/{image_id}", re.findall(rf"{ADDRESS}([^?'\s]*)", command)[0])
        method = re.findall(r"-X (\w+)", command) or ["post" if " -F " in command or "--data" in command else "get"]
        called.add((method[0].lower(), path))
    assert called == routes


def test_every_problem_is_in_the_table_with_its_status() -> None:
    told = {
        (name, int(status))
        for names, status in re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (\d+) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"[a-z-]+", names)
    }
    assert told == {(kind.name, kind.status) for kind in (*KINDS.values(), *FRAMEWORK.values())}
