"""Imports only point down the layers of ARCHITECTURE.md."""

import ast
import functools
import re
from pathlib import Path

import pytest

import shiftproof
import shiftproof_reproduce

ROOT = Path(shiftproof.__file__).parent
EXPERIMENTS = Path(shiftproof_reproduce.__file__).parent


def read_layers() -> list[set[str]]:
    """The layers that ARCHITECTURE.md draws, from the lowest."""
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = re.search(r"^## Layers.*\n\n(.+)\n", text, re.MULTILINE)[1]
    return [set(names.split()) for names in re.findall(r"`([^`]+)`", drawn)]


*BELOW, HIGHEST = read_layers()
LAYERS = [{"_version"}, *BELOW, {*HIGHEST, "testing"}]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# Within the base layer, which a set cannot order: what each part may import of its peers.
BASE = {
    "types": {"counts", "errors"},
    "errors": set(),
    "rng": {"errors"},
    "lazy": {"errors"},
    "classes": {"counts", "errors"},
    "counts": set(),
    "display": {"counts", "errors", "lazy"},
    "specs": {"errors"},
    "unit_rows": {"types"},
    "io": {"errors", "lazy", "types"},
    "compute": {"errors", "io"},
    "provenance": {"io", "types"},
    "shards": {"compute", "counts", "errors", "io", "lazy", "types"},
    "storage": {"compute", "errors", "io"},
}

# Public doors that look down lazily are no layer of their own.
SURFACE = {"__init__", "__main__"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


Import = ast.Import | ast.ImportFrom


def find_imports(tree: ast.AST, for_types: bool = False) -> list[tuple[Import, bool]]:
    """Every import of a tree, wherever it stands, and whether it is there for the sake of types."""
    found: list[tuple[Import, bool]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Import):
            found.append((node, for_types))
        elif not isinstance(node, ast.expr):
            found += find_imports(node, for_types or is_for_types(node))
    return found


def is_for_types(node: ast.AST) -> bool:
    """Whether a block is run by those alone who check types; its ``else`` counts as such, too."""
    words = ast.walk(node.test) if isinstance(node, ast.If) else ()
    return any("TYPE_CHECKING" in (getattr(n, "id", ""), getattr(n, "attr", "")) for n in words)


@functools.cache
def imports_of(path: Path) -> list[tuple[Import, bool]]:
    """Those of a file. They are kept for all tests, as to parse every file takes seconds."""
    return find_imports(ast.parse(path.read_text(encoding="utf-8")))


def imported_parts(imports: list[tuple[Import, bool]], package: list[str]):
    for node, _ in imports:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")]
            module = [word for word in module if word]
            names = [".".join([*module, alias.name]) for alias in node.names]
        for name in names:
            words = name.split(".")
            if words[0] == "shiftproof" and len(words) > 1:
                part = words[1]
                yield "_version" if part == "__version__" else part


def imported_names(path: Path):
    """The modules that a file names in its imports, wherever they stand in it."""
    for node, _ in imports_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not node.level and node.module:
            yield node.module


FILES = sorted(path for path in ROOT.rglob("*.py") if part_of(path) not in SURFACE)


def test_every_part_has_a_layer():
    without = {part_of(path) for path in FILES} - set(LEVEL)
    assert not without, f"{sorted(without)}: put it into a layer of ARCHITECTURE.md"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path):
    part = part_of(path)
    package = ["shiftproof", *path.relative_to(ROOT).parent.parts]
    for imported in set(imported_parts(imports_of(path), package)) - {part}:
        assert imported in LEVEL, f"{path.name} imports shiftproof.{imported}, which has no layer"
        if LEVEL[imported] == LEVEL[part] and part in BASE:
            assert imported in BASE[part], f"{part} imports its peer {imported}, not listed in BASE"
        else:
            assert LEVEL[imported] < LEVEL[part], (
                f"{part} imports {imported}, which is not below it in ARCHITECTURE.md: move what is "
                "shared down, or import it for types alone"
            )


OWN_WORDS = {
    "lazy.py",
    # Their classes have bases of the library, so that mypy needs the import itself.
    "integrations/lightning.py", "integrations/transformers.py",
    # One import that brings torch with it, for all names of the module.
    "contrastive/losses.py",
    # Two packages at once, and files of a package that is not imported.
    "models/classifiers/demo.py", "data/images/demo.py",
}  # fmt: skip


def test_optional_libraries_are_imported_by_one_function():
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if "MissingExtraError.of(" in path.read_text(encoding="utf-8")
    }
    assert found == OWN_WORDS, (
        f"{sorted(found ^ OWN_WORDS)}: import optional libraries by lazy.import_extra"
    )


def test_the_check_sees_every_form_of_import():
    source = """
from shiftproof.bench import run
from ..report import page
from shiftproof import cli
import shiftproof.data.images.folder
def late():
    from .corruption import x
"""
    found = set(imported_parts(find_imports(ast.parse(source)), ["shiftproof", "metrics"]))
    assert found == {"bench", "report", "cli", "data", "metrics"}


def test_the_experiments_are_imported_by_the_command_line_alone():
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for name in imported_names(path)
        if name.split(".")[0] == EXPERIMENTS.name
    }
    assert importing == {"cli/reproduce.py"}


def test_the_command_line_imports_the_experiments_only_when_called():
    tree = ast.parse((ROOT / "cli" / "reproduce.py").read_text(encoding="utf-8"))
    # A block at the top of the file, such as one for the sake of types, is not looked into.
    loaded = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert EXPERIMENTS.name not in ast.unparse(loaded)


# ---------------------------------------------------------------- modules


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for root in (ROOT, EXPERIMENTS) for path in root.rglob("*.py")}


def imported_modules(name: str) -> set[str]:
    """The modules that one imports anywhere, within functions too, but for the sake of types."""
    found: set[str] = set()
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]

    for node, for_types in imports_of(MODULES[name]):
        if for_types:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                module = f"{base}.{alias.name}"
                found.add(module if module in MODULES else base)
    return found & set(MODULES) - {name}


def test_no_modules_import_each_other_in_a_circle():
    left = {name: imported_modules(name) for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"{sorted(left)} lie on a circle of imports, or lead to one"


# ---------------------------------------------------------------- the order inside packages


def read_inner_layers() -> dict[str, dict[str, int]]:
    """The level of each part of a package, for the packages whose order ARCHITECTURE.md has."""
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = {}
    for package, order in re.findall(r"^- `([a-z_/]+)`: (`.+` < `.+`)$", text, re.MULTILINE):
        layers = enumerate(re.findall(r"`([^`]+)`", order))
        found[package] = {part: level for level, names in layers for part in names.split()}
    return found


INNER = read_inner_layers()


def list_parts(package: str) -> set[str]:
    """The folders with code and the files of a package."""
    entries = (ROOT / package).iterdir()
    return {
        path.stem for path in entries if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__"}


@pytest.mark.parametrize("package", ["adapt", "bench", "bench/tasks"])
def test_every_part_of_a_package_has_a_layer(package):
    assert list_parts(package) == set(INNER[package])


@pytest.mark.parametrize("package", ["adapt", "bench", "bench/tasks"])
def test_parts_of_a_package_import_only_those_before(package):
    inside, level = f"shiftproof.{package.replace('/', '.')}.", INNER[package]
    below = {name: name.removeprefix(inside) for name in MODULES if name.startswith(inside)}
    for name, place in below.items():
        part = place.split(".")[0]
        others = {below[one].split(".")[0] for one in imported_modules(name) if one in below}
        wrong = {other for other in others - {part} if level[other] >= level[part]}
        assert not wrong, f"{name} imports {sorted(wrong)}, which {part} must not know"
