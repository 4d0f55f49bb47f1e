"""make docker-test with a stand-in for docker: it asks a real service, and always takes it down."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts.command import Refused
from scripts.demo import Demo
from scripts.docker_test import HELD, UNSET, WHOLE, compare
from service.settings import Settings
from tests.processes import environment

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
PROJECT = "compose --project-name fc7-docker-test"
VERSION, BUILD, UP, EXEC, RUN, LOGS, DOWN = (
    f"{PROJECT} {words}"
    for words in (
        "version",
        "build",
        "up --wait fc7",
        f"exec -T fc7 sh -c {HELD}",
        f"run --detach --publish 127.0.0.1:PORT:8000 prepare {' '.join(WHOLE)}",
        "logs --tail 50",
        "down --volumes --remove-orphans",
    )
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
    calls = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", (state / "calls").read_text())
    return done.returncode, done.stdout, done.stderr, calls.splitlines()


@pytest.mark.slow
def test_it_builds_brings_up_asks_and_takes_down(tmp_path: Path) -> None:
    code, out, error, calls = docker_test(tmp_path, "")
    assert (code, calls) == (0, [VERSION, BUILD, UP, EXEC, RUN, DOWN]), error
    assert out.endswith("the images build, start and answer; 200 new images have the same answers from both\n")


@contextmanager
def answering(ids: list[int], distances: list[float]) -> Iterator[str]:
    """Give the address of a service that answers every image so."""
    near = [{"image_id": image_id, "distance": distance} for image_id, distance in zip(ids, distances, strict=True)]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"neighbours": near}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_answers_of_both_images_are_compared() -> None:
    with (
        answering([3, 5], [0.5, 2.0]) as one,
        answering([3, 5], [0.5, 2.00001]) as near,
        answering([3, 5], [0.5, 2.0001]) as far,
        answering([5, 3], [0.5, 2.0]) as other,
    ):
        compare(one, near)
        for wrong in (far, other):
            with pytest.raises(Refused, match="^image 0: other answers: "):
                compare(one, wrong)


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
    read = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert {"IMAGES", "WEIGHTS", "DATA", "SOURCE"} <= read
    assert read - {"IMAGES", "FC7_PORT"} == set(UNSET)


@pytest.mark.parametrize(("name", "config"), [("prepare", Demo), ("fc7", Settings)])
def test_what_compose_sets_is_read(name: str, config: type) -> None:
    given = set(re.findall(r"^      FC7_(\w+):", service(name), re.MULTILINE))
    assert given
    assert {variable.lower() for variable in given} <= {field.name for field in fields(config)}


@pytest.mark.parametrize("name", ["prepare", "fc7"])
def test_a_container_can_do_little(name: str) -> None:
    """The GPU's services are made from these two."""
    said = service(name)
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]', "init: true"):
        assert f"\n    {line}\n" in said
    for limit in (r"mem_limit: \$\{\w+:-\d+g\}", r"pids_limit: \d+", r'tmpfs: \["/tmp:size=\d+[mg]"\]'):
        assert re.search(rf"\n    {limit}", said)
    assert f"  {name}-gpu:\n    <<: *{'serve' if name == 'fc7' else name}\n" in COMPOSE


def test_the_service_is_published_on_this_machine_alone_and_writes_nothing() -> None:
    said = service("fc7")
    assert '    ports: ["${PUBLISH:-127.0.0.1}:${FC7_PORT:-8000}:8000"]\n' in said
    assert "      - fc7:/var/lib/fc7:${ACCESS:-ro}\n" in said
    assert "\n    stop_grace_period: 15s" in said
    published = re.findall(r'^    ports: \["(.*)"\]', COMPOSE, re.MULTILINE)
    assert len(published) == COMPOSE.count("ports:") == 3
    assert all(port.startswith(("${PUBLISH:-127.0.0.1}:", "127.0.0.1:")) for port in published)


def test_cpu_is_the_profile_of_a_plain_up() -> None:
    assert "\nCOMPOSE_PROFILES=cpu\n" in (ROOT / ".env").read_text()
    for name, profile in (("prepare", "cpu"), ("fc7", "cpu"), ("prepare-gpu", "gpu"), ("fc7-gpu", "gpu")):
        assert f"\n    profiles: [{profile}]\n" in service(name)


def service(name: str) -> str:
    """Return what docker-compose.yml says of a service."""
    return re.split(r"^(?=\S)|^  (?=\S)", COMPOSE.partition(f"\n  {name}:")[2], maxsplit=1, flags=re.MULTILINE)[0]
