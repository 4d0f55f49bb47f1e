"""Try docs/monitoring with a real Prometheus: its files are valid, its alerts fire as tested, every query finds data.

A service must be running; it is asked some questions meanwhile. Needs prometheus and promtool (Debian's package
prometheus has both). Grafana is not needed: the dashboard's queries are put to Prometheus as Grafana would put them.
"""

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any

from scripts.command import Refused, run

FOLDER = Path(__file__).parents[1] / "docs" / "monitoring"
INTERVAL = "20s"  # what Grafana puts in the place of $__rate_interval, here with a scrape every second
OPTIONAL = {"fc7_canary_difference"}  # metrics that a service may lack


@dataclass(frozen=True, kw_only=True)
class MonitoringTest:
    """Try the Prometheus configuration, the alerts and the dashboard against a running service."""

    service: str = "http://127.0.0.1:8000"
    """Address of a service that runs."""
    prometheus: str = "prometheus"
    """The program; promtool is looked for beside it."""
    seconds: float = 30.0
    """Time for which questions are asked, in seconds."""


def monitoring_test(config: MonitoringTest) -> None:
    """Raises Refused when a file is not valid, an alert does not fire as tested, or a query finds nothing."""
    promtool = str(Path(config.prometheus).with_name("promtool"))
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]):
        _run([promtool, *words])
    with TemporaryDirectory() as folder, _prometheus(config, Path(folder)) as address:
        _ask_for(config.seconds, config.service)
        empty = [query for query in sorted({*_queries(), *_rules()}) if not _found(address, query)]
    for query in empty:
        print(f"nothing for {query}")
    if missing := [query for query in empty if not any(name in query for name in OPTIONAL)]:
        raise Refused(f"{len(missing)} of the queries find nothing; they are above")
    print("every query finds data")


def _queries() -> Iterator[str]:
    """Give the queries of the dashboard."""
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", INTERVAL)


def _rules() -> Iterator[str]:
    """Give the metrics, with their labels, that the alerts look at."""
    text = (FOLDER / "alerts.yml").read_text()
    for name in re.findall(r"(\w+)\{", text):
        if name.startswith(("fc7_", "up")):
            yield f'{name}{{job="fc7"}}'


@contextmanager
def _prometheus(config: MonitoringTest, folder: Path) -> Iterator[str]:
    """Run Prometheus with the repository's configuration, but for the address and the interval."""
    text = (FOLDER / "prometheus.yml").read_text()
    text = text.replace("fc7:8000", urllib.parse.urlsplit(config.service).netloc).replace("10s", "1s")
    (folder / "prometheus.yml").write_text(text)
    copy(FOLDER / "alerts.yml", folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["--config.file", "prometheus.yml", "--storage.tsdb.path", "data", "--web.listen-address", address]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([config.prometheus, *words], cwd=folder, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _ready(f"http://{address}/-/ready"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise Refused(f"prometheus does not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.2)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def _ask_for(seconds: float, service: str) -> None:
    """Ask about indexed images, by id and as uploads; and something wrong, so that there are problems."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        image = json.loads(_answer(f"{service}/images/random"))
        _answer(f"{service}/neighbours?image_id={image['image_id']}", b"")
        thumbnail = _answer(service + image["thumbnail"])
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for data in (thumbnail, b"not an image"):
            _answer(f"{service}/neighbours", head + data + b"\r\n--b--\r\n")
        time.sleep(0.2)


def _answer(address: str, body: bytes | None = None) -> bytes:
    """Return the body of the answer, also of a refusal. Raises Refused where there is none."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"} if body else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30) as answer:
            found: bytes = answer.read()
    except urllib.error.HTTPError as error:
        found = error.read()
    except OSError as error:
        raise Refused(f"{address}: {error}; start a service, and give its address with --service") from error
    return found


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _found(prometheus: str, query: str) -> list[Any]:
    """Return what a query finds now. Raises Refused where it is not valid."""
    answer = json.loads(_answer(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})))
    if answer["status"] != "success":
        raise Refused(f"{query}: {answer['error']}")
    found: list[Any] = answer["data"]["result"]
    return found


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{words[0]} cannot be run: {error}") from error
    if done.returncode:
        raise Refused(f"{' '.join(words[1:])}: {done.stdout} {done.stderr}")


if __name__ == "__main__":
    run(MonitoringTest, monitoring_test)
