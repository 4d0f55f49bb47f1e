"""What a package gives to the others is written down: every name is importable, and is installed with its types."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["model", "index"])
def test_the_public_names_are_the_imported_ones(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert module.__all__ == sorted(imported)
    for name in module.__all__:
        owner = getattr(module, name)
        assert owner.__module__.startswith(f"{package}."), f"{name} is not {package}'s own"


@pytest.mark.parametrize("file", sorted((ROOT / "service").rglob("*.py")), ids=lambda file: file.name)
def test_the_service_uses_public_names_only(file: Path) -> None:
    used = [node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in used if name and name.startswith(("model.", "index."))]


def test_all_code_is_installed_and_with_its_types() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"}
    assert told["py-modules"] == sorted(file.stem for file in ROOT.glob("*.py"))
    assert set(told["packages"]["find"]["include"]) == {f"{package}*" for package in packages}
    assert told["package-data"]["*"] == ["py.typed"]
    assert packages == {file.parent.name for file in ROOT.glob("*/py.typed")}


def test_all_code_is_in_the_docker_image() -> None:
    code = {file.name for file in ROOT.glob("*.py")} | {file.parent.name for file in ROOT.glob("*/__init__.py")}
    copied = re.findall(r"^COPY (\S+) /app/", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == code - {"tests"}
    assert {f"!{name}" for name in copied} <= set((ROOT / ".dockerignore").read_text().splitlines())


def test_the_small_docker_image_has_packages_of_the_large_one() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    of_all = {requirement.split(";")[0] for requirement in told["project"]["dependencies"]}
    assert set(told["dependency-groups"]["serve"]) < of_all


def test_the_small_docker_image_has_the_scripts_that_its_scripts_import() -> None:
    copies = "\n".join(re.findall("^COPY .*", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    copied = set(re.findall(r"scripts/(\w+)\.py", copies))
    sources = [(ROOT / f"scripts/{name}.py").read_text() for name in copied]
    used = re.findall(r"^ *(?:from|import) scripts\.?(\w*)", "\n".join(sources), re.MULTILINE)
    assert "serve" in copied
    assert set(used) <= copied
