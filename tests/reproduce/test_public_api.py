"""The experiments stand on what everybody can use: the public names of shiftproof."""

import ast
import importlib
from pathlib import Path

import pytest

import shiftproof_reproduce
from test_surface import SURFACE

ROOT = Path(shiftproof_reproduce.__file__).parent
PUBLIC = {package for package in SURFACE if package.split(".")[0] == "shiftproof"}


def private_imports(source: str) -> list[str]:
    """What of shiftproof a file imports, or takes of a module it has imported, that is not public."""
    tree = ast.parse(source)
    found, modules = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            words = [alias.name for alias in node.names]
            found += [word for word in words if word.split(".")[0] == "shiftproof"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "shiftproof":
            for alias in node.names:
                if node.module not in PUBLIC or alias.name not in SURFACE[node.module]:
                    found.append(f"{node.module}.{alias.name}")
                else:
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module in PUBLIC and node.attr not in SURFACE[module]:
                found.append(f"{module}.{node.attr}")
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_experiments_import_public_names_alone(path):
    assert private_imports(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from shiftproof.similarity import prune", []),
        ("from shiftproof import bench\nbench.run", []),
        ("from shiftproof.io.manifest import check_same", ["shiftproof.io.manifest.check_same"]),
        ("from shiftproof.similarity import _prune", ["shiftproof.similarity._prune"]),
        ("from shiftproof import bench\nbench.cells", ["shiftproof.bench.cells"]),
        ("import shiftproof.bench.grid.grid_run", ["shiftproof.bench.grid.grid_run"]),
        ("def later():\n    from shiftproof.cli import main", ["shiftproof.cli.main"]),
    ],
)
def test_the_check_sees_every_form_of_import(source, found):
    assert private_imports(source) == found


def test_public_names_are_found_where_the_inventory_says():
    for package in PUBLIC:
        assert SURFACE[package] <= set(dir(importlib.import_module(package)))
