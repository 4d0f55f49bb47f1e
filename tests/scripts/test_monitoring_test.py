"""The check of docs/monitoring: what it needs and lacks is one clear line."""

import socket
from pathlib import Path

import pytest

from scripts.command import Refused
from scripts.monitoring_test import MonitoringTest, _ask_for, monitoring_test


def test_without_prometheus_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"none/promtool cannot be run"):
        monitoring_test(MonitoringTest(prometheus=str(tmp_path / "none" / "prometheus")))


def test_a_file_that_promtool_refuses_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "promtool"
    program.write_text("#!/bin/sh\necho no good; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(Refused, match=r"check config prometheus.yml: no good"):
        monitoring_test(MonitoringTest(prometheus=str(tmp_path / "prometheus")))


def test_without_a_service_it_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Refused, match="start a service, and give its address with --service"):
        _ask_for(1.0, address)
