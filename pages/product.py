"""The tables of the pages on installing and on limits, from what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pages.tables import write_table

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"

_PLACE = re.compile(r"<!-- product:(\w+) -->\n.*?<!-- end -->", flags=re.DOTALL)

_REASONS = {
    "llvmlite": "LLVM, which compiles numba's loops",
    "pyarrow": "the record table as Parquet; webdataset's metadata and datasets of Hugging Face",
    "opencv-python-headless": "filters, warps and JPEG of the corruptions, in the published rounding",
    "numpy": "arrays",
    "numba": "loops where NumPy needs many passes: noises, glass blur, similarity search",
    "pillow": "every image format, with the box filter and JPEG of the published code",
    "pydantic_core": "a requirement of typer, which reads the command line",
    "shiftproof": "itself, with class lists of seven benchmarks",
}
_SHOWN = 5.0

_FAULTS = {
    "killed": "kill -9 at a random moment",
    "killed-beside-workers": "kill -9 of only the main process, with workers",
    "SIGINT": "Ctrl-C at a random moment",
    "SIGTERM": "SIGTERM at a random moment",
    "worker-killed": "a worker killed, as by the system if memory is short",
    "worker-out-of-memory": "a worker out of memory",
    "worker-hangs": "a worker that never ends",
    "full-disk": "a disk that becomes full",
    "read-only": "a disk that is or becomes read-only",
    "two-commands": "two commands on one folder",
    "clock-back": "a clock that is set back",
}


def write_install() -> str:
    """Return the page on installing with its table."""
    return _fill("install.md")


def write_limits() -> str:
    """Return the page on limits with its tables."""
    return _fill("limits.md")


def _fill(page: str) -> str:
    def fill(place: re.Match[str]) -> str:
        return f"<!-- product:{place[1]} -->\n\n{_TABLES[place[1]]()}\n<!-- end -->"

    return _PLACE.sub(fill, (DOCS / page).read_text("utf-8"))


def _list_sizes() -> str:
    measured = _read("install")
    packages = measured["packages"]
    rows = [
        (name, f"{one['megabytes']:.0f}", _REASONS.get(name.lower(), ""))
        for name, one in packages.items()
        if one["megabytes"] >= _SHOWN
    ]
    small = [one["megabytes"] for one in packages.values() if one["megabytes"] < _SHOWN]
    rows.append(
        (
            f"{len(small)} smaller ones",
            f"{sum(small):.0f}",
            "the other parts of the command line, workers, typed files, shiftproof itself",
        )
    )
    rows.append(("**all**", f"**{measured['megabytes']:.0f}**", f"Python {measured['python']}"))
    return write_table(("package", "MB", "for"), rows)


def _list_faults() -> str:
    measured = _read("faults")
    rows = []
    for fault, title in _FAULTS.items():
        found = [verb[fault] for verb in measured["verbs"].values()]
        tried = [one for one in found if one["trials"]]
        rows.append(
            (
                title,
                f"{len(tried)}",
                f"{sum(one['trials'] for one in tried)}",
                f"{sum(one['stopped'] for one in tried)}",
                f"{sum(len(one.get('wrong', ())) for one in found)}",
            )
        )
    head = ("fault", "commands", "trials", "ended the command", "wrong")
    return write_table(head, rows, numbers=True)


def _list_readers() -> str:
    measured = _read("mutated_files")
    rows = [(_OUTCOMES[name], f"{count:,}") for name, count in measured["outcomes"].items()]
    return write_table(("result for a changed file", "inputs"), rows, numbers=True)


_OUTCOMES = {
    "error": "an error that names the file",
    "accepted": "read: the change did not affect the content that is read",
    "traceback": "a traceback",
    "memory": "more than 400 MB",
    "hang": "more than 5 CPU seconds, or a minute",
    "crash": "the process died",
    "escape": "a file written elsewhere, or a program started",
}


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text("utf-8"))
    return content


def _list_bare() -> str:
    rows = [(f"`{name}`", _show(value)) for name, value in _read("start")["bare"].items()]
    return write_table(("program", "CPU seconds"), rows, numbers=True)


def _list_starts() -> str:
    kinds = ("first", "wrong_option", "help", "whole")
    rows = [
        (f"`{verb}`", *(_show(found[kind]) for kind in kinds))
        for verb, found in _read("start")["verbs"].items()
    ]
    head = ("command", "first line", "wrong option", "help", "whole")
    return write_table(head, rows, numbers=True)


def _show(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"


_TABLES = {
    "sizes": _list_sizes,
    "faults": _list_faults,
    "readers": _list_readers,
    "bare": _list_bare,
    "starts": _list_starts,
}
