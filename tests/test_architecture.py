"""Promises about the whole tree that no single module can keep."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nextscale"
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_the_root(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert "nextscale" not in [name.name for name in node.names]
        if isinstance(node, ast.ImportFrom) and node.module == "nextscale":
            modules = {item.stem for item in PACKAGE.iterdir()}
            assert {name.name for name in node.names} <= modules


@pytest.mark.parametrize("folder", ["config", "scales.py", "errors.py"])
def test_configuration_does_not_know_torch(folder: str) -> None:
    place = PACKAGE / folder
    for path in [place] if place.is_file() else place.glob("*.py"):
        assert "torch" not in imported_packages(path), path


def imported_packages(path: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            packages |= {name.name.split(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            packages.add(node.module.split(".")[0])
    return packages
