"""Matching result files of other frameworks with cells of the grid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.corruptions import CORRUPTIONS, GROUPS
from shiftproof.data.images.cells import canonicalize_corruption
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.types import CLEAN, Cell

_CLEAN_NAMES = {"clean", "none", "original", "identity"}
_SEVERITY = re.compile(r"(?:severity[-_ ]?|sev[-_ ]?|s)?0*([0-5])", re.IGNORECASE)
_JOINED = re.compile(
    r"(?P<name>.+?)[-_. ]?(?:severity[-_ ]?|sev[-_ ]?|s)?0*(?P<severity>[0-5])", re.IGNORECASE
)
_KINDS = {"boxes": ("bbox", "box"), "masks": ("segm", "mask", "masks")}


@dataclass(frozen=True)
class PredictionFiles:
    """The result files below a folder.

    Attributes:
        files: file of each cell.
        ignored: files, relative to the folder, whose names match no cell.
    """

    files: dict[Cell, Path]
    ignored: tuple[str, ...]


def find_predictions(
    root: Path, *, masks: bool = False, suffixes: Sequence[str] = (".json",)
) -> PredictionFiles:
    """Find result files by the names of folders and files.

    For fog at severity 3 any of ``fog/3.json``, ``fog/3/results.bbox.json``,
    ``fog/severity_3/coco_instances_results.json``, ``fog-3.json``, ``fog3.json``,
    ``fog_03.bbox.json``, and the same in a folder of the group (``weather/fog/3.json``). The clean
    cell is ``clean.json``, ``clean/...json``, or severity 0 of any corruption, as mmdetection's
    test_robustness has it. Upper case, spaces and hyphens in a corruption's name make no difference;
    a name that is not in the table is a corruption of its own where severities lie below it.

    Args:
        root: the folder.
        masks: which one to use if a cell has a file of boxes and one of masks.
        suffixes: suffixes of the files; others are ignored.

    Raises:
        InputError: no folder, no result file, two files for one cell, or several clean cells that
            differ.
    """
    suffix = suffixes[0]
    if not root.is_dir():
        raise InputError(
            f"{root}: expected a folder of result files, corruption/severity{suffix}, or a table."
        )
    of_cell: dict[Cell, list[Path]] = {}
    ignored: list[str] = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if any(part.startswith(".") for part in relative.parts):
            continue
        cell = parse_cell(relative.as_posix())
        if cell is None:
            ignored.append(relative.as_posix())
        else:
            of_cell.setdefault(cell, []).append(path)
    if not of_cell:
        seen = f"; these files say no corruption: {', '.join(ignored[:3])}" * bool(ignored)
        raise InputError(
            f"{root} holds no result file of a cell; expected such as fog/3{suffix} or "
            f"fog/3/results{suffix}, and clean{suffix}{seen}."
        )
    chosen = {
        cell: _choose_clean_file(root, paths)
        if cell.is_clean
        else _choose_file(root, cell, paths, masks)
        for cell, paths in of_cell.items()
    }
    return PredictionFiles(chosen, tuple(ignored))


def parse_cell(name: str) -> Cell | None:
    """Return the cell of a file by its path below the root, or None.

    >>> parse_cell("weather/Fog/severity_3/results.bbox.json")
    Cell(corruption='fog', severity=3)
    >>> parse_cell("gaussian_noise-5.json"), parse_cell("clean.json")
    (Cell(corruption='gaussian_noise', severity=5), Cell(corruption='clean', severity=0))
    """
    parts = list(PurePosixPath(name).parts)
    parts[-1] = _strip_suffixes(parts[-1])
    found = _find_cell(parts)
    return None if found is None else found[0]


def split_cell(name: str) -> tuple[Cell, str] | None:
    """Return the cell that the folders of a path say, and the path below them, or None.

    >>> split_cell("weather/fog/3/images/0.png")
    (Cell(corruption='fog', severity=3), 'images/0.png')
    >>> split_cell("clean/0.png"), split_cell("fog-3/0.png")
    ((Cell(corruption='clean', severity=0), '0.png'), (Cell(corruption='fog', severity=3), '0.png'))
    """
    *folders, file = PurePosixPath(name).parts
    found = _find_cell(folders)
    if found is None:
        return None
    cell, used = found
    return cell, "/".join([*folders[used:], file])


def _find_cell(parts: Sequence[str]) -> tuple[Cell, int] | None:
    """Return the cell that the parts of a path say, and how many of them it takes to say it."""
    group = int(len(parts) > 1 and parts[0].lower() in {*GROUPS, "extra"})
    for at, part in enumerate(parts[group:], start=group):
        if part.lower() in _CLEAN_NAMES:
            return CLEAN, at + 1
        joined = _JOINED.fullmatch(part)
        if joined and canonicalize_corruption(joined["name"]) in CORRUPTIONS:
            return _make_cell(joined["name"], int(joined["severity"])), at + 1
        following = parts[at + 1] if at + 1 < len(parts) else ""
        severity = _SEVERITY.fullmatch(following)
        if severity and (canonicalize_corruption(part) in CORRUPTIONS or at == group):
            return _make_cell(part, int(severity[1])), at + 2
    return None


def compare_cells(
    shared_cells: Iterable[Cell], known_cells: Iterable[Cell]
) -> tuple[list[Cell], list[Cell]]:
    """Return the cells that all models have, in order, and those missing for a full grid.

    Raises:
        InputError: all models have no corrupted cell.
    """
    shared, known = set(shared_cells), set(known_cells)
    if not any(not cell.is_clean for cell in shared):
        raise InputError(
            "Expected at least one corrupted cell that all models have; there are "
            f"{', '.join(map(str, sorted(known)[:5]))}."
        )
    severities = {cell.severity for cell in known if not cell.is_clean}
    whole = {CLEAN} | {
        Cell(name, severity) for name in list_corruptions(known) for severity in severities
    }
    return order_cells(shared), order_cells(whole - shared)


def list_corruptions(cells: Iterable[Cell]) -> list[str]:
    """Return the corruptions of some cells, the table's first, in its order."""
    return list(dict.fromkeys(cell.corruption for cell in order_cells(cells) if not cell.is_clean))


def order_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Return cells in order: the clean one, then the table's corruptions, in its order."""
    place = {name: at for at, name in enumerate(CORRUPTIONS)}
    return sorted(
        cells,
        key=lambda cell: (not cell.is_clean, place.get(cell.corruption, len(place)), cell),
    )


def _make_cell(name: str, severity: int) -> Cell:
    return Cell(canonicalize_corruption(name), severity) if severity else CLEAN


def _strip_suffixes(name: str) -> str:
    """``fog-3.bbox.json`` is ``fog-3``: what follows a kind is the framework's own."""
    stem = re.sub(r"\.(json|npz|npy|csv|parquet|png)$", "", name, flags=re.IGNORECASE)
    for endings in _KINDS.values():
        for ending in endings:
            stem = re.sub(rf"[._-]{ending}$", "", stem, flags=re.IGNORECASE)
    return stem


def _choose_file(root: Path, cell: Cell, paths: list[Path], masks: bool) -> Path:
    if len(paths) > 1:
        wanted = _KINDS["masks" if masks else "boxes"]
        of_kind = [path for path in paths if _has_kind(path, wanted)]
        others = _KINDS["boxes" if masks else "masks"]
        paths = of_kind or [path for path in paths if not _has_kind(path, others)] or paths
    if len(paths) > 1:
        raise InputError(
            f"{root}: {len(paths)} files are of the cell {cell} ({_list_some(root, paths)}); expected one."
        )
    return paths[0]


def _has_kind(path: Path, kinds: Iterable[str]) -> bool:
    return any(re.search(rf"[._-]{kind}$", path.stem, re.IGNORECASE) for kind in kinds)


def _choose_clean_file(root: Path, paths: list[Path]) -> Path:
    """Severity 0 lies under every corruption in some tools: it is one cell all the same."""
    contents = {files.file_fingerprint(path): path for path in reversed(paths)}
    if len(contents) > 1:
        differing = list(contents.values())
        raise InputError(
            f"{root}: the clean cell is there {len(contents)} times with different content "
            f"({_list_some(root, differing)}); expected one clean file."
        )
    return paths[0]


def _list_some(root: Path, paths: list[Path]) -> str:
    names = [path.relative_to(root).as_posix() for path in paths[:3]]
    return ", ".join(names) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
