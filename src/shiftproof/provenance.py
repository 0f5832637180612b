"""Provenance of results: machine, software and command."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from shiftproof._version import __version__
from shiftproof.io.naming import hide_folders
from shiftproof.types import Settings

_LIBRARIES = (
    "numpy", "numba", "opencv-python-headless", "Pillow", "pyarrow",
    "torch", "torchvision", "timm", "open_clip_torch", "onnxruntime",
)  # fmt: skip


def provenance(device: str, workers: int) -> Settings:
    """Return versions, machine, time and command; no folder of the machine is named.

    Args:
        device: device of the model.
        workers: number of worker processes.
    """
    return {
        "shiftproof": __version__,
        "python": platform.python_version(),
        "libraries": dict(_list_versions()),
        "platform": platform.platform(),
        "processor": _read_processor_name(),
        "cores": os.cpu_count(),
        "device": device,
        "workers": workers,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": show_command(sys.argv),
    }


@functools.cache
def _list_versions() -> tuple[tuple[str, str], ...]:
    """Return each installed library with its version, read once: a read takes a millisecond each."""
    versions = []
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append((library, metadata.version(library)))
    return tuple(versions)


def show_command(arguments: Sequence[str]) -> str:
    """Return a command line without folders of absolute paths and without secrets of URLs.

    >>> show_command(["/opt/bin/shiftproof", "bench", "--model", "onnx:/home/ada/net.onnx?size=224"])
    'shiftproof bench --model onnx:net.onnx?size=224'
    >>> show_command(["/lib/shiftproof/__main__.py", "audit", "train", "--test", "art=/data/art"])
    'shiftproof audit train --test art=art'
    """
    program = Path(arguments[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return " ".join([name, *map(hide_folders, arguments[1:])])


@functools.cache
def _read_processor_name() -> str:
    """Return the processor's name; platform.processor() is empty on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
