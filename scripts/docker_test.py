"""Build the Docker image, bring it up with a small folder of images, ask one question, take everything down.

The compose project, its volumes and its port are this script's own: a service that runs already is left alone.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from scripts.command import Refused, run

ROOT = Path(__file__).parents[1]
COMPOSE = ("docker", "compose", "--project-name", "fc7-docker-test", "--file", str(ROOT / "docker-compose.yml"))
UNSET = dict.fromkeys(("DATA", "SOURCE", "WEIGHTS", "FC7_PRESET", "COMPOSE_PROFILES"), "")  # what the user may have set
CLASSES, EACH = ("dark", "light"), 100  # images in each


@dataclass(frozen=True, kw_only=True)
class DockerTest:
    """Try the Docker image from its build to an answer; needs docker with its compose plugin."""

    minutes: float = 60.0  # for building, training and starting, together


def docker_test(config: DockerTest) -> None:
    """Raises Refused when a step fails or takes too long. Whatever happens, containers and volumes are removed."""
    if not config.minutes > 0:
        raise Refused(f"--minutes {config.minutes}: a positive number is accepted")
    _check_compose()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    deadline = time.monotonic() + 60 * config.minutes
    with TemporaryDirectory() as images:
        _draw(Path(images))
        variables = {**os.environ, **UNSET, "IMAGES": images, "FC7_PORT": str(port)}
        try:
            _compose(["build"], variables, deadline - time.monotonic())
            _compose(["up", "--wait", "fc7"], variables, deadline - time.monotonic())
            indexed = Path(images) / CLASSES[1] / "007.png"  # its name's hash does not hold it out for validation
            _ask(f"http://127.0.0.1:{port}/neighbours", indexed)
        except BaseException:  # Ctrl-C too; what failed is told, not what fails while it is taken down
            with suppress(Refused):
                _compose(["logs", "--tail", "50"], variables, 60)
            with suppress(Refused):
                _compose(["down", "--volumes"], variables, 120)
            raise
        _compose(["down", "--volumes"], variables, 120)
    print("the image builds, starts and answers")


def _check_compose() -> None:
    """Raise Refused, in one line, where there is no docker or where it has no compose."""
    command, variables = [*COMPOSE, "version"], {**os.environ, **UNSET}
    try:
        asked = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"docker cannot be run: {error}") from error
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[0]
        raise Refused(f"docker compose cannot be run, its plugin is needed: {reason}")


def _draw(folder: Path) -> None:
    """Class folders of noise, dark or light, that the container's user may read."""
    rng = np.random.default_rng(0)
    for bright, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(EACH):
            pixels = rng.integers(128 * bright, 128 * bright + 128, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)


def _compose(words: list[str], variables: dict[str, str], seconds: float) -> None:
    print("$ docker compose", *words, flush=True)
    try:
        subprocess.run([*COMPOSE, *words], env=variables, timeout=seconds, check=True)
    except subprocess.CalledProcessError as error:
        raise Refused(f"docker compose {words[0]}: exit code {error.returncode}; its message is above") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"docker compose {words[0]}: not done after {seconds:.0f} s (see --minutes)") from error


def _ask(address: str, file: Path) -> None:
    """Ask about an image that is in the index: it must find itself, at distance 0 to rounding. Raises Refused."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = head + file.read_bytes() + b"\r\n--b--\r\n"
    request = urllib.request.Request(address, body, {"Content-Type": "multipart/form-data; boundary=b"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            first, second, *rest = json.load(answer)["neighbours"]
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{address}: {error!r}") from error
    if len(rest) != 4 or first["label"] != file.parent.name or not first["distance"] <= 1e-3 * second["distance"]:
        raise Refused(f"{address}: a wrong answer: {first}, {second}, {len(rest)} more")


if __name__ == "__main__":
    run(DockerTest, docker_test)
