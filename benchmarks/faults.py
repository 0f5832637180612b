"""Every long verb under every fault: how the command ends, and what the same command makes of it later.

    python benchmarks/faults.py --out benchmarks/results/faults.json
    python benchmarks/faults.py --only corrupt,audit --faults killed,full-disk --kills 3

Each verb works on small data, in a fork of a process that has imported everything. A fault comes, the
command ends or goes on, and then the same command runs without a fault. A trial is good when

    the command with the fault ended as it should, in a sentence (never a traceback);
    the command behind it ended well, with the same bytes as one that was never disturbed;
    no unfinished file and no lock is left, and five seconds later no process.

Disks that are full or read-only are small file systems in memory, for which the command starts itself
anew in a namespace of its own (``unshare``); where the system does not allow that, these faults are
left out and counted as such. The command ends with 1 where a trial is not good.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from output import show

from shiftproof.cli.ending import Stopped, describe_stopped, handle_signals
from shiftproof.cli.printing import complain
from shiftproof.compute import processes
from shiftproof.errors import InputError, ShiftproofError
from shiftproof.io import files, folder_locks

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))


@functools.cache
def interrupting() -> Any:
    """The verbs. They import torch, which takes seconds: once, and only in the namespace."""
    return importlib.import_module("support.interrupting")


LONGEST = 600.0
"""Seconds after which a command is said to hang."""

ORPHAN_SECONDS = 5.0
"""Seconds that workers have to notice that their command is gone."""

DISK = 64 << 20
"""Bytes of a disk with room enough."""

YEAR = 365 * 86_400

Setup = Callable[[], None]


# ---------------------------------------------------------------- one command


@dataclass
class StopReason:
    """How a command ended: its exit code (minus a signal that ended it), and what it printed."""

    code: int
    told: str


class Command:
    """A verb's command on its small data, which may be started again and again."""

    def __init__(self, verb: str, root: Path) -> None:
        root.mkdir()
        self.out, self._told = root / "out", root / "told"
        self._work = interrupting().VERBS[verb](root)
        with (root / "warm").open("w") as told, contextlib.redirect_stdout(told):
            self._work(root / "first")  # here, so that no fork has to import and compile anew
        begun = time.monotonic()
        ended = self.run()
        self.seconds = time.monotonic() - begun
        if ended.code:
            raise RuntimeError(f"{verb}: undisturbed it ended with {ended.code}: {ended.told}")
        self.expected = contents_of(self.out)
        self.pages = sum(-(-path.stat().st_size // 4096) for path in walk_files(self.out))
        self.clear()

    def clear(self) -> None:
        """Remove what the command has written."""
        shutil.rmtree(self.out, ignore_errors=True)

    def start(self, *, workers: int = 0, setup: Setup | None = None) -> int:
        """Start it in a session of its own, and return its process."""
        child = os.fork()
        if child:
            return child
        code = 99
        try:
            os.setsid()
            printed = os.open(self._told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            # A shell that started this in the background lets it ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            interrupting().WORKERS = workers
            if setup is not None:
                setup()
            code = end_as_command(lambda: self._work(self.out))
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def wait(self, process: int) -> StopReason:
        """Wait for its end; one that takes too long is killed, and its code is that of a hang."""
        deadline = time.monotonic() + LONGEST
        while True:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                kill_session(process)
                os.waitpid(process, 0)
                code = 124
                break
            time.sleep(0.002)
        return StopReason(
            code, self._told.read_text(errors="replace") if self._told.exists() else ""
        )

    def run(self, *, workers: int = 0, setup: Setup | None = None) -> StopReason:
        """Start it and wait for its end."""
        return self.wait(self.start(workers=workers, setup=setup))


def end_as_command(work: Callable[[], int]) -> int:
    """Do as ``shiftproof.cli.main`` does with what ends a command."""
    try:
        with handle_signals():
            return work()
    except KeyboardInterrupt:
        return describe_stopped(signal.SIGINT)
    except Stopped as stopped:
        return describe_stopped(stopped.number)
    except ShiftproofError as error:
        complain(error)
        return 2 if isinstance(error, InputError) else 1


def walk_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def contents_of(folder: Path) -> dict[str, Any]:
    """What is in each file, without the lines that say by how many processes."""
    return interrupting().without_provenance(interrupting().contents(folder))


# ---------------------------------------------------------------- processes of the system


def session_of(process: int) -> list[int]:
    """The processes of a session that are alive."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = entry.read_text().rpartition(")")[2].split()[:4]
            if int(session) == process and state != "Z":
                found.append(int(entry.parent.name))
    return found


def workers_of(process: int) -> list[int]:
    """The worker processes of a command."""
    found = []
    for other in session_of(process):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{other}/cmdline").read_bytes()
            if other != process and b"popen_loky" in words:
                found.append(other)
    return found


def kill_session(process: int) -> None:
    for one in session_of(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def has_orphans(process: int) -> bool:
    """Whether processes of a command that has ended are alive some seconds later; they are ended."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while session_of(process):
        if time.monotonic() > deadline:
            kill_session(process)
            return True
        time.sleep(0.02)
    return False


# ---------------------------------------------------------------- disks


def can_mount() -> bool:
    """Whether this process may mount file systems that nobody else sees."""
    with tempfile.TemporaryDirectory() as place:
        mounted = mount(Path(place), DISK)
        if mounted:
            unmount(Path(place))
        return mounted


def mount(folder: Path, size: int) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def disk_at(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a folder, which is made for it."""
    folder.mkdir(exist_ok=True)
    if not mount(folder, size):
        raise RuntimeError(f"{folder}: cannot be mounted")
    try:
        yield
    finally:
        unmount(folder)
        folder.rmdir()


def enter_namespace() -> None:
    """Start this script anew where it may mount, if it may not yet and the system allows it."""
    if os.environ.get("FAULTS_NAMESPACE") or shutil.which("unshare") is None:
        return
    for options in (["--mount"], ["--mount", "--map-root-user"]):
        words = ["unshare", *options, "true"]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            os.environ["FAULTS_NAMESPACE"] = "1"
            os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])


# ---------------------------------------------------------------- faults


@dataclass
class Outcome:
    """What came of the trials of a verb under a fault."""

    trials: int = 0
    stopped: int = 0
    left_out: str = ""
    wrong: list[str] = field(default_factory=list)

    def check(self, is_right: bool, what: str) -> None:
        """Note what is wrong."""
        if not is_right:
            self.wrong.append(what)


def end_well(command: Command, process: int, ended: StopReason, outcome: Outcome) -> None:
    """Check what a fault has left, run the command again, and check what that gives."""
    outcome.trials += 1
    outcome.stopped += ended.code != 0
    for word in ("Traceback", "fault of shiftproof"):
        outcome.check(word not in ended.told, f"{word}: {ended.told[-1500:]}")
    outcome.check(ended.code != 124, f"hung for {LONGEST:g} s")
    outcome.check(not has_orphans(process), "processes are left")
    again = command.run()
    outcome.check(again.code == 0, f"then ended with {again.code}: {again.told[-1500:]}")
    there = contents_of(command.out)
    differing = interrupting().differing(there, command.expected)
    outcome.check(not differing, f"then these differ: {differing[:5]}")
    left = [name for name in there if name.endswith((".part", ".lock"))]
    outcome.check(not left, f"left: {left[:5]}")


def stop_by_signal(name: str, command: Command, source: random.Random, trials: int) -> Outcome:
    """Send a signal at random moments."""
    outcome = Outcome()
    number = signal.Signals[name]
    for _ in range(trials):
        command.clear()
        process = command.start()
        time.sleep(source.uniform(0, command.seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        ended = command.wait(process)
        # Before the command has set its handlers the system's default ends it.
        expected = (0, -number) if name == "SIGKILL" else (0, 128 + number, -number)
        outcome.check(ended.code in expected, f"ended with {ended.code}: {ended.told[-1500:]}")
        end_well(command, process, ended, outcome)
    return outcome


def kill_beside_workers(command: Command) -> Outcome:
    """Kill the main process alone while a worker is there."""
    outcome = Outcome()
    command.clear()
    process = command.start(workers=1)
    if await_worker(process) is None:
        command.wait(process)
        outcome.left_out = "starts no process"
        return outcome
    time.sleep(0.3)
    os.kill(process, signal.SIGKILL)
    end_well(command, process, command.wait(process), outcome)
    return outcome


def await_worker(process: int) -> int | None:
    """Wait until a command has a worker; None where it ends without one."""
    while True:
        found = workers_of(process)
        if found:
            return found[0]
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return None
        time.sleep(0.01)


def kill_worker_once(command: Command) -> Outcome:
    """Kill a worker, as the system does when memory is short: the command goes on with another."""
    outcome = Outcome()
    command.clear()
    process = command.start(workers=1)
    worker = await_worker(process)
    if worker is None:
        command.wait(process)
        outcome.left_out = "starts no process"
        return outcome
    time.sleep(0.3)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    ended = command.wait(process)
    outcome.check(ended.code == 0, f"ended with {ended.code}: {ended.told[-1500:]}")
    differing = interrupting().differing(contents_of(command.out), command.expected)
    outcome.check(not differing, f"these differ: {differing[:5]}")
    end_well(command, process, ended, outcome)
    return outcome


def starve_workers(command: Command) -> Outcome:
    """Leave workers the memory that they have, and no more: the command says so, or gets through."""
    outcome = Outcome()
    command.clear()
    process = command.start(workers=1)
    known: set[int] = set()
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for worker in set(workers_of(process)) - known:
            known.add(worker)
            with contextlib.suppress(OSError):
                pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
                most = pages * resource.getpagesize() + (64 << 20)
                resource.prlimit(worker, resource.RLIMIT_AS, (most, most))
        time.sleep(0.005)
    if not known:
        command.wait(process)
        outcome.left_out = "starts no process"
        return outcome
    ended = command.wait(process)
    outcome.check(ended.code in (0, 1, 2), f"ended with {ended.code}: {ended.told[-1500:]}")
    end_well(command, process, ended, outcome)
    return outcome


def hang_worker(command: Command) -> Outcome:
    """Let the first item of a worker never end: the time limit names it."""
    outcome = Outcome()

    def never_end() -> None:
        numbers = itertools.count()
        submit = processes._Pool.submit

        def instead(pool: Any, item: Any) -> Any:
            if next(numbers):
                return submit(pool, item)
            return pool._pool.submit(time.sleep, 3600)

        processes._Pool.submit = instead
        processes.ITEM_SECONDS = 1.0

    command.clear()
    process = command.start(workers=1, setup=never_end)
    ended = command.wait(process)
    if ended.code == 0:
        outcome.left_out = "starts no process"
        return outcome
    outcome.check(ended.code == 1, f"ended with {ended.code}")
    outcome.check(
        "has not finished one item in 1 s (" in ended.told,
        f"no item is named: {ended.told[-1500:]}",
    )
    end_well(command, process, ended, outcome)
    return outcome


def fill_disk(command: Command, source: random.Random, trials: int) -> Outcome:
    """Give the command a disk that has room for a part of what it writes."""
    outcome = Outcome()
    for _ in range(trials):
        command.clear()
        size = max(1, int(command.pages * source.uniform(0.05, 0.95))) * 4096
        with disk_at(command.out, size):
            process = command.start()
            ended = command.wait(process)
            outcome.check(
                ended.code == 0 or (ended.code == 1 and "The disk is full" in ended.told),
                f"ended with {ended.code} at {size} bytes: {ended.told[-1500:]}",
            )
            remount(command.out, f"size={DISK}")
            end_well(command, process, ended, outcome)
    return outcome


def forbid_writing(command: Command, source: random.Random, trials: int) -> Outcome:
    """Start on a read-only disk, empty or with what a killed command has left."""
    outcome = Outcome()
    for trial in range(trials):
        command.clear()
        with disk_at(command.out, DISK):
            if trial:
                begun = command.start()
                time.sleep(source.uniform(0, command.seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(begun, signal.SIGKILL)
                command.wait(begun)
            before = interrupting().contents(command.out)
            remount(command.out, "ro")
            process = command.start()
            ended = command.wait(process)
            outcome.check(
                ended.code == 2 and "cannot be written" in ended.told,
                f"ended with {ended.code}: {ended.told[-1500:]}",
            )
            remount(command.out, "rw")
            outcome.check(interrupting().contents(command.out) == before, "something was changed")
            end_well(command, process, ended, outcome)
    return outcome


def start_twice(command: Command) -> Outcome:
    """Start a second command while the first one works: it is refused, and told by whom."""
    outcome = Outcome()
    command.clear()

    def pause_when_it_holds() -> None:
        clear, numbers = files.clear_unfinished, itertools.count()

        def pause(*arguments: Any, **options: Any) -> None:
            if not next(numbers):
                os.kill(os.getpid(), signal.SIGSTOP)
            clear(*arguments, **options)

        folder_locks.files.clear_unfinished = pause

    first = command.start(setup=pause_when_it_holds)
    _, status = os.waitpid(first, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        outcome.wrong.append(f"holds no folder: {os.waitstatus_to_exitcode(status)}")
        return outcome
    second = command.run()
    owner = f"(process {first} on {socket.gethostname()} since "
    outcome.check(second.code == 2, f"the second ended with {second.code}")
    outcome.check(owner in second.told, f"no owner is named: {second.told[-1500:]}")
    os.kill(first, signal.SIGCONT)
    ended = command.wait(first)
    outcome.check(ended.code == 0, f"the first ended with {ended.code}")
    end_well(command, first, ended, outcome)
    return outcome


def turn_clock_back(command: Command, source: random.Random) -> Outcome:
    """Kill a command whose clock is a year ahead; let the clock of the next one run backwards."""
    outcome = Outcome()
    command.clear()
    real = time.time

    def ahead() -> None:
        time.time = lambda: real() + YEAR

    def backwards() -> None:
        steps = itertools.count()
        time.time = lambda: real() - 60.0 * next(steps)

    begun = command.start(setup=ahead)
    time.sleep(source.uniform(0, command.seconds))
    with contextlib.suppress(ProcessLookupError):
        os.kill(begun, signal.SIGKILL)
    command.wait(begun)
    later = time.time() + YEAR
    for path in command.out.rglob("*"):
        os.utime(path, (later, later))
    process = command.start(setup=backwards)
    ended = command.wait(process)
    outcome.check(ended.code == 0, f"ended with {ended.code}: {ended.told[-1500:]}")
    end_well(command, process, ended, outcome)
    return outcome


Trial = Callable[[Command, random.Random, int], Outcome]

FAULTS: dict[str, Trial] = {
    "killed": lambda command, source, kills: stop_by_signal("SIGKILL", command, source, kills),
    "killed-beside-workers": lambda command, source, kills: kill_beside_workers(command),
    "SIGINT": lambda command, source, kills: stop_by_signal("SIGINT", command, source, 3),
    "SIGTERM": lambda command, source, kills: stop_by_signal("SIGTERM", command, source, 3),
    "worker-killed": lambda command, source, kills: kill_worker_once(command),
    "worker-out-of-memory": lambda command, source, kills: starve_workers(command),
    "worker-hangs": lambda command, source, kills: hang_worker(command),
    "full-disk": lambda command, source, kills: fill_disk(command, source, 3),
    "read-only": lambda command, source, kills: forbid_writing(command, source, 2),
    "two-commands": lambda command, source, kills: start_twice(command),
    "clock-back": lambda command, source, kills: turn_clock_back(command, source),
}

ON_DISKS = ("full-disk", "read-only")


def try_verb(verb: str, root: Path, faults: list[str], kills: int, seed: int) -> dict[str, Outcome]:
    """Return what came of one verb under these faults."""
    command = Command(verb, root)
    mounts = can_mount()
    outcomes = {}
    for fault in faults:
        if fault in ON_DISKS and not mounts:
            outcomes[fault] = Outcome(left_out="no file system may be mounted here")
            continue
        outcomes[fault] = FAULTS[fault](command, random.Random(f"{seed} {verb} {fault}"), kills)
    return outcomes


def tell(outcome: Outcome) -> dict[str, Any]:
    """An outcome as it is written down."""
    told: dict[str, Any] = {"trials": outcome.trials, "stopped": outcome.stopped}
    if outcome.left_out:
        told["left_out"] = outcome.left_out
    if outcome.wrong:
        told["wrong"] = outcome.wrong
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="beginnings of verbs, with commas between them")
    parser.add_argument("--faults", default="", help=f"some of {', '.join(FAULTS)}")
    parser.add_argument("--kills", type=int, default=20, help="kills of each verb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    enter_namespace()
    faults = asked.faults.split(",") if asked.faults else list(FAULTS)
    verbs = [verb for verb in interrupting().VERBS if verb.startswith(tuple(asked.only.split(",")))]
    if not verbs or not set(faults) <= set(FAULTS):
        parser.error(
            f"--only: some of {', '.join(interrupting().VERBS)}; --faults: {', '.join(FAULTS)}"
        )
    interrupting().prepare()
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for verb in verbs:
            root = Path(place) / verb.replace(" ", "-")
            found = try_verb(verb, root, faults, asked.kills, asked.seed)
            table[verb] = {fault: tell(outcome) for fault, outcome in found.items()}
            print(verb, json.dumps(table[verb]), file=sys.stderr, flush=True)
    entries = [entry for by_fault in table.values() for entry in by_fault.values()]
    wrong = sum(len(entry.get("wrong", ())) for entry in entries)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result = {
        "seed": asked.seed,
        "trials": sum(entry["trials"] for entry in entries),
        "stopped": sum(entry["stopped"] for entry in entries),
        "wrong": wrong,
        "cpu_seconds": round(sum(one.ru_utime + one.ru_stime for one in spent)),
        "verbs": table,
    }
    show(result, asked.out)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
