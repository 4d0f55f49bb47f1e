"""make docker-test with a stand-in for docker: it asks a real service, and always takes it down."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from scripts.demo import Demo
from scripts.docker_test import UNSET
from tests.processes import environment

ROOT = Path(__file__).parents[2]
PROJECT = "compose --project-name fc7-docker-test"
VERSION, BUILD, UP, LOGS, DOWN = (
    f"{PROJECT} {words}" for words in ("version", "build", "up --wait fc7", "logs --tail 50", "down --volumes")
)


def docker_test(state: Path, broken: str) -> tuple[int, str, str, list[str]]:
    """Exit code, output, errors, and the calls of docker."""
    (state / "broken").write_text(broken)
    (state / "bin").mkdir()
    fake = state / "bin/docker"
    fake.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m tests.scripts.fake_docker "$@"\n')
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "scripts/docker_test.py"],
        cwd=ROOT,
        env=environment(PATH=path, FAKE_DOCKER=str(state), FC7_PRESET="release", OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, (state / "calls").read_text().splitlines()


@pytest.mark.slow
def test_it_builds_brings_up_asks_and_takes_down(tmp_path: Path) -> None:
    code, out, error, calls = docker_test(tmp_path, "")
    assert (code, calls) == (0, [VERSION, BUILD, UP, DOWN]), error
    assert out.endswith("the image builds, starts and answers\n")


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("build", [VERSION, BUILD, LOGS, DOWN]),
        ("up", [VERSION, BUILD, UP, LOGS, DOWN]),
        ("up logs down", [VERSION, BUILD, UP, LOGS, DOWN]),
    ],
)
def test_a_step_that_fails_is_told_and_everything_is_taken_down(
    broken: str, expected: list[str], tmp_path: Path
) -> None:
    code, _, error, calls = docker_test(tmp_path, broken)
    assert (code, calls) == (2, expected)
    assert error.splitlines()[-1].startswith(f"docker_test.py: docker compose {broken.split()[0]}: ")


def test_docker_without_compose_is_one_line(tmp_path: Path) -> None:
    code, _, error, calls = docker_test(tmp_path, "version")
    assert (code, calls) == (2, [VERSION])
    assert error == "docker_test.py: docker compose cannot be run, its plugin is needed: version is broken\n"


def test_the_users_own_variables_do_not_reach_the_trial() -> None:
    """Of all that docker-compose.yml reads, what the trial does not set itself is unset."""
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert {"IMAGES", "WEIGHTS", "DATA", "SOURCE"} <= read
    assert read - {"IMAGES", "FC7_PORT"} == set(UNSET) - {"COMPOSE_PROFILES"}


def test_what_compose_sets_is_read_by_the_demo() -> None:
    given = set(re.findall(r"^ +FC7_(\w+):", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE))
    assert given == {"DATA", "SOURCE", "IMAGES", "WEIGHTS", "PRESET"}
    assert {name.lower() for name in given} <= {field.name for field in fields(Demo)}
