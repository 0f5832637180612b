"""What each verb takes until its first line, and in whole: CPU seconds of its process.

    python benchmarks/start.py --out benchmarks/results/start.json
    python benchmarks/start.py --only bench,corrupt --trials 9

Each command is a process of its own on small real inputs. Both of its streams are one pipe, unbuffered,
and when the first byte comes out of it, the time that the process has spent on a processor is read from
``/proc``. One command goes before those that are measured, so that bytecode and files lie in memory; the
medians of the others count. Beside them stand Python that does nothing, and the imports of the libraries
that every start needs: a start costs what the machine and its other work make of them. Linux only.

``first`` is a command that works, ``wrong_option`` one that is refused, ``help`` its help; ``whole`` is
the first of them to its end, once, with worker processes; null of ``reproduce``, which trains networks.
Verbs that stand in the file already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from output import show
from start_inputs import TESTS, write_inputs

from support.verb_commands import COMMANDS

BARE = {
    "python": "pass",
    "numpy": "import numpy",
    "typer": "import typer",
    "rich": "import rich.console",
    "shiftproof.cli": "import shiftproof.cli",
}
"""Programs to hold the starts against."""

ENDLESS = {"reproduce"}
"""Verbs that take minutes of work on the smallest input."""


@dataclass
class Start:
    """One command: CPU seconds until its first byte, its first line, and CPU seconds in whole."""

    first: float
    line: str
    whole: float | None = None


def run(words: list[str], folder: Path, *, to_end: bool = False) -> Start:
    """Run a program of Python to its first line, or to its end."""
    clear(folder)
    read, write = os.pipe()
    paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(TESTS)]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=write, stderr=write,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )  # fmt: skip
    os.close(write)
    told = os.read(read, 1 << 16)
    first = spent(process.pid)
    while (to_end or b"\n" not in told) and (more := os.read(read, 1 << 16)):
        told += more
    if not to_end:
        os.killpg(process.pid, signal.SIGKILL)
    os.close(read)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it is gone, and nobody else should wait for it
    lines = told.decode(errors="replace").strip().splitlines()
    return Start(first, lines[0].strip() if lines else "", usage.ru_utime + usage.ru_stime)


def spent(process: int) -> float:
    """CPU seconds of all threads of a process that is alive."""
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def clear(folder: Path) -> None:
    """Remove what the last command wrote."""
    for path in [*folder.glob("out*"), folder / "shiftproof.toml"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def measure(words: list[str], folder: Path, trials: int) -> Start:
    """Run a command some times to its first line, and return the median."""
    starts = [run(words, folder) for _ in range(trials + 1)][1:]
    return Start(statistics.median(one.first for one in starts), starts[0].line)


def measure_bare(program: str, folder: Path, trials: int) -> float:
    """Return the median of CPU seconds of a program that prints nothing, in whole."""
    spent = [run(["-c", program], folder, to_end=True).whole or 0 for _ in range(trials + 1)][1:]
    return round(statistics.median(spent), 3)


def measure_verb(verb: str, folder: Path, trials: int) -> dict[str, Any]:
    """Measure a command of a verb that works, one with a wrong option, and its help."""
    command = ["-m", "shiftproof", verb]
    words = [*command, *COMMANDS[verb]]
    works = measure(words, folder, trials)
    return {
        "first": round(works.first, 3),
        "wrong_option": round(measure([*words, "--no-such"], folder, trials).first, 3),
        "help": round(measure([*command, "--help"], folder, trials).first, 3),
        "whole": None if verb in ENDLESS else round(run(words, folder, to_end=True).whole or 0, 2),
        "line": works.line,
    }


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(COMMANDS), help="verbs, separated by commas")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    there = options.out is not None and options.out.exists()
    before = json.loads(options.out.read_text(encoding="utf-8")) if there else {"verbs": {}}
    left = [verb for verb in options.only.split(",") if verb not in before["verbs"]]
    with tempfile.TemporaryDirectory(prefix="shiftproof-start-") as temporary:
        folder = Path(temporary)
        write_inputs(folder)
        bare = {name: measure_bare(one, folder, options.trials) for name, one in BARE.items()}
        verbs = dict(before["verbs"])
        for verb in left:
            verbs[verb] = measure_verb(verb, folder, options.trials)
            print(verb, json.dumps(verbs[verb]), file=sys.stderr, flush=True)
    result = {
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "trials": options.trials,
        "bare": bare,
        "verbs": {verb: verbs[verb] for verb in COMMANDS if verb in verbs},
    }
    show(result, options.out)


if __name__ == "__main__":
    main()
