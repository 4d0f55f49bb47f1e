"""Build both Docker images, bring them up with a small folder of images, compare their answers, take everything down.

The compose project, its volumes and its port are this script's own: a service that runs already is left alone.
"""

import io
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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.command import Refused, run

ROOT = Path(__file__).parents[1]
COMPOSE = ("docker", "compose", "--project-name", "fc7-docker-test", "--file", str(ROOT / "docker-compose.yml"))
# What the user may have set.
PREPARED = ("DATA", "SOURCE", "WEIGHTS", "FC7_PRESET", "PREPARE_MEMORY")
SERVED = ("PUBLISH", "ACCESS", "MEMORY", "KEYS", "FC7_HOSTS", "FC7_RATE", "FC7_PROXIES", "FC7_CORS_ORIGINS")
MONITORED = ("GRAFANA_PORT", "PROMETHEUS_PORT")
UNSET = dict.fromkeys((*PREPARED, *SERVED, *MONITORED), "")
CLASSES, EACH = ("dark", "light"), 100  # images in each
ASKED = 200  # images that are not in the index
WHOLE = ("python", "scripts/serve.py", "--host", "0.0.0.0", "--bundle", "/var/lib/fc7/bundles/demo")
# What the served container must not be able to do, and the one folder where it may write.
HELD = (
    "! touch /app/x && ! touch /var/lib/fc7/x && touch /tmp/x && "
    "grep -q 'CapEff:.0000000000000000' /proc/self/status && grep -q 'NoNewPrivs:.1' /proc/self/status"
)


@dataclass(frozen=True, kw_only=True)
class DockerTest:
    """Try the Docker images from their build to an answer; needs docker with its compose plugin."""

    minutes: float = 60.0  # for building, training and starting, together


def docker_test(config: DockerTest) -> None:
    """Raises Refused when a step fails or takes too long. Whatever happens, containers and volumes are removed."""
    if not config.minutes > 0:
        raise Refused(f"--minutes {config.minutes}: a positive number is accepted")
    _check_compose()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = one.getsockname()[1], other.getsockname()[1]
    small, whole = (f"http://127.0.0.1:{port}" for port in ports)
    deadline = time.monotonic() + 60 * config.minutes
    with TemporaryDirectory() as images:
        _draw(Path(images))
        variables = {**os.environ, **UNSET, "IMAGES": images, "FC7_PORT": str(ports[0]), "COMPOSE_PROFILES": "cpu"}
        try:
            _compose(["build"], variables, deadline - time.monotonic())
            _compose(["up", "--wait", "fc7"], variables, deadline - time.monotonic())
            _compose(["exec", "-T", "fc7", "sh", "-c", HELD], variables, 60)
            # The image that prepares serves the same bundle, to compare.
            _compose(["run", "--detach", "--publish", f"127.0.0.1:{ports[1]}:8000", "prepare", *WHOLE], variables, 60)
            indexed = Path(images) / CLASSES[1] / "007.png"  # its name's hash does not hold it out for validation
            _find_itself(small, indexed)
            _wait(whole, deadline)
            compare(small, whole)
        except BaseException:  # Ctrl-C too; what failed is told, not what fails while it is taken down
            with suppress(Refused):
                _compose(["logs", "--tail", "50"], variables, 60)
            with suppress(Refused):
                _compose(["down", "--volumes", "--remove-orphans"], variables, 120)
            raise
        _compose(["down", "--volumes", "--remove-orphans"], variables, 120)
    print(f"the images build, start and answer; {ASKED} new images have the same answers from both")


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
            Image.fromarray(_noise(rng, bright)).save(folder / name / f"{i:03}.png")
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


def _noise(rng: np.random.Generator, bright: int) -> NDArray[np.uint8]:
    return rng.integers(128 * bright, 128 * bright + 128, (32, 32, 3), dtype=np.uint8)


def _ask(address: str, image: bytes) -> Any:
    """Return the answer of /neighbours to an image. Raises Refused."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = head + image + b"\r\n--b--\r\n"
    request = urllib.request.Request(f"{address}/neighbours", body, {"Content-Type": "multipart/form-data; boundary=b"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise Refused(f"{address}: {error!r}") from error


def _find_itself(address: str, file: Path) -> None:
    """Ask about an image that is in the index: it must find itself, at distance 0 to rounding. Raises Refused."""
    first, second, *rest = _ask(address, file.read_bytes())["neighbours"]
    if len(rest) != 4 or first["label"] != file.parent.name or not first["distance"] <= 1e-3 * second["distance"]:
        raise Refused(f"{address}: a wrong answer: {first}, {second}, {len(rest)} more")


def compare(one: str, other: str) -> None:
    """Ask two services about ASKED new images: the same neighbours, distances within 1e-5. Raises Refused."""
    rng = np.random.default_rng(1)
    for i in range(ASKED):
        file = io.BytesIO()
        Image.fromarray(_noise(rng, i % 2)).save(file, "PNG")
        found = [_ask(address, file.getvalue())["neighbours"] for address in (one, other)]
        ids, other_ids = ([near["image_id"] for near in answer] for answer in found)
        distances, others = ([near["distance"] for near in answer] for answer in found)
        if ids != other_ids or not np.allclose(distances, others, rtol=1e-5, atol=0):
            raise Refused(f"image {i}: other answers: {ids} and {other_ids}, at {distances} and {others}")


def _wait(address: str, deadline: float) -> None:
    """Return when a service is ready. Raises Refused."""
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{address}/readyz", timeout=5):
            return
        time.sleep(0.1)
    raise Refused(f"{address}: not ready in time")


if __name__ == "__main__":
    run(DockerTest, docker_test)
