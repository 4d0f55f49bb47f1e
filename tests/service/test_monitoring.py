"""The dashboard and the alerts ask for metrics that the service has, and the docs name each of these."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from service.metrics import Metrics

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "monitoring"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The names under which Prometheus has the metrics."""
    metrics = Metrics()
    metrics.canary(0.0)
    found = re.findall(r"^# TYPE (\w+) (\w+)", metrics.text().decode(), re.MULTILINE)
    # The text format says counter of a name that ends with _total already.
    return {name.removesuffix("_total") + suffix for name, kind in found for suffix in SUFFIXES[kind]} | {"up"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def asked(query: str) -> set[str]:
    """The metrics that a query asks for: all are followed by their labels."""
    return set(re.findall(r"(\w+)\{", query))


def test_the_dashboard_asks_for_metrics_that_there_are(dashboard: dict[str, Any], names: set[str]) -> None:
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 20
    assert all(asked(query) for query in queries)
    assert set().union(*map(asked, queries)) <= names


def test_the_alerts_ask_for_metrics_that_there_are_and_each_is_tested(names: set[str]) -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    assert set().union(*(asked(rule["expr"]) for rule in group["rules"])) <= names
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in group["rules"]}
    series = set().union(*(asked(one["series"]) for test in tests for one in test["input_series"]))
    assert series <= names


def test_compose_mounts_every_file_where_it_is_looked_for() -> None:
    services = yaml.safe_load((DOCS.parent / "docker-compose.yml").read_text())["services"]
    mounts = [mount for name in ("prometheus", "grafana") for mount in services[name]["volumes"]]
    files = {Path(mount.split(":")[0]).name: mount.split(":")[1] for mount in mounts if mount.startswith("./")}
    assert files.keys() == {file.name for file in FOLDER.iterdir()} - {"alerts.test.yml"}
    (provider,) = yaml.safe_load((FOLDER / "dashboards.yml").read_text())["providers"]
    assert provider["options"]["path"] == str(Path(files["dashboard.json"]).parent)
    (rules,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"]
    assert Path(files["prometheus.yml"]).parent / rules == Path(files["alerts.yml"])
    for name in ("prometheus", "grafana"):
        found = services[name]
        assert found["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in found["ports"])
        assert (found["read_only"], found["cap_drop"]) == (True, ["ALL"])
        assert found["security_opt"] == ["no-new-privileges:true"]
        assert found["mem_limit"]


def test_panels_have_places_of_their_own_and_one_data_source(dashboard: dict[str, Any]) -> None:
    (source,) = yaml.safe_load((FOLDER / "datasources.yml").read_text())["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_docs_name_every_metric(names: set[str]) -> None:
    rows = re.findall(r"^\| `(fc7_\w+)` \|", (DOCS / "operating.md").read_text(), re.MULTILINE)
    own = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("fc7_")}
    assert {*rows} - {"fc7_keys_current"} == own  # only with --keys
