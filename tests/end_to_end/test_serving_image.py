"""The small Docker image: the packages of the dependency group `serve` are enough to answer on a CPU."""

import json
import re
import tomllib
import urllib.request
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.end_to_end.served import ROOT, served, start
from tests.images import encoded, photograph
from tests.service.bundles import build


def installed(name: str) -> Distribution:
    """Return a package as it is installed here, where either FAISS stands for both."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        if name != "faiss-cpu":
            raise
        return distribution("faiss-gpu")


def closure(requirements: Iterable[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Add to `found` what pip installs for the requirements, by name: the packages, and those that they require."""
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found[name] = installed(name)
            closure(found[name].requires or (), found)
    return found


@pytest.fixture(scope="module")
def packages() -> dict[str, Distribution]:
    return closure(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["serve"], {})


@pytest.fixture(scope="module")
def python(packages: dict[str, Distribution], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The python of an environment with the group's packages and fc7's version, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3.*/site-packages")
    for package in packages.values():
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            link = site / top
            if not link.exists():  # a namespace has several packages
                link.symlink_to(str(package.locate_file(top)))
    about = site / "fc7-0.dist-info/METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: fc7\nVersion: 0\n")
    return str(folder / "bin/python")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build(tmp_path_factory.mktemp("collection")))


def test_the_packages_are_enough_to_answer(python: str, bundle: str) -> None:
    head = b'--a\r\nContent-Disposition: form-data; name="file"; filename="x.jpg"\r\n\r\n'
    body = head + encoded(photograph(60, 40), "JPEG") + b"\r\n--a--\r\n"
    with served("--bundle", bundle, python=python, PYTHONPATH=str(ROOT)) as server:
        question = urllib.request.Request(
            f"{server.address}/neighbours", body, {"Content-Type": "multipart/form-data; boundary=a"}
        )
        for asked in (question, f"{server.address}/version", f"{server.address}/metrics", server.address):
            with urllib.request.urlopen(asked, timeout=60) as answer:
                text = answer.read()
                if asked is question:
                    assert len(json.loads(text)["neighbours"]) == 6


def test_a_gpu_is_refused_in_one_line(python: str, bundle: str) -> None:
    process = start("--bundle", bundle, "--port", "0", "--device", "cuda", python=python, PYTHONPATH=str(ROOT))
    out, error = process.communicate(timeout=60)
    reason = "'cuda' needs torch, which cannot be loaded here (No module named 'torch'); accepted are auto and cpu"
    assert (process.returncode, out, error) == (2, "", f"serve.py: {reason}\n")


def test_every_package_is_pinned(packages: dict[str, Distribution]) -> None:
    pinned = re.findall("^(.+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert set(packages) - set(map(canonicalize_name, pinned)) == set()
