"""`docker compose` for tests: without image or container, it runs the real scripts.

Each call is a line of $FAKE_DOCKER/calls; $FAKE_DOCKER/broken holds the names of commands that fail.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_DOCKER"])
ROOT = Path(__file__).parents[2]


def up() -> None:
    """Pack the folder of images, index it with an untrained network, serve that, and return once it answers."""
    from model.checkpoint import save  # here, because they take seconds that the other commands need not take
    from tests.service.bundles import network

    script("prepare_dataset.py", "--images", os.environ["IMAGES"], "--out", STATE / "data", "--size", "32")
    save(STATE / "network", network())
    index = ("--checkpoint", STATE / "network", "--images", STATE / "data", "--bundle", STATE / "bundle")
    script("build_index.py", "--device", "cpu", *index)
    serve(int(os.environ["FC7_PORT"]))


def serve(port: int) -> None:
    """Start the service and return when it is ready; it stays."""
    flags: list[str | Path] = ["--bundle", STATE / "bundle", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen([sys.executable, ROOT / "scripts/serve.py", *flags], stdout=subprocess.PIPE) as service:
        with (STATE / "pids").open("a") as pids:
            print(service.pid, file=pids)
        assert service.stdout is not None
        assert service.stdout.readline().startswith(b"fc7 is at ")
        os._exit(0)


def script(name: str, *flags: str | Path) -> None:
    """Run a script to its end."""
    subprocess.run([sys.executable, ROOT / "scripts" / name, *flags], check=True, timeout=120)


def down() -> None:
    """End the services that were started."""
    if (STATE / "pids").exists():
        for pid in (STATE / "pids").read_text().split():
            os.kill(int(pid), signal.SIGTERM)


if __name__ == "__main__":
    assert os.environ["FC7_PRESET"] == "", "the user's settings reach the container"
    words = sys.argv[sys.argv.index("--file") + 2 :]
    with (STATE / "calls").open("a") as calls:
        print(*sys.argv[1:4], *words, file=calls)
    if words[0] in (STATE / "broken").read_text().split():
        sys.exit(f"{words[0]} is broken")
    if words[0] == "run":
        serve(int(words[words.index("--publish") + 1].split(":")[1]))
    {"up": up, "down": down}.get(words[0], lambda: None)()
