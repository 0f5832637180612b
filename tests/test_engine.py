import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from loky import process_executor
from loky.backend import resource_tracker

from shiftproof.compute import processes as engine
from shiftproof.compute.processes import map_ordered, start_workers
from shiftproof.errors import InputError, RunError
from shiftproof.io.folder_locks import releases_locks
from support.worker_items import (
    Deadly,
    Slow,
    Starved,
    Unreadable,
    die_always,
    die_once,
    fail,
    length,
    number_of_process,
    raise_timeout,
    sleep_at_three,
    square,
    take_too_much,
)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_for_any_number_of_workers(workers):
    results = list(map_ordered(square, range(20), context=100, workers=workers))
    assert results == [100 + i * i for i in range(20)]


def test_a_killed_worker_costs_nothing(tmp_path):
    results = map_ordered(die_once, range(30), context=str(tmp_path / "flag"), workers=2)
    assert list(results) == list(range(30))
    assert (tmp_path / "flag").exists()


def test_an_item_that_kills_every_worker_ends_the_work():
    with pytest.raises(RunError, match=r"died 3 times .*\(3\)"):
        list(map_ordered(die_always, range(9), context=None, workers=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_comes_at_its_place_in_the_order(workers):
    results = map_ordered(fail, range(9), context=None, workers=workers)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="item four"):
        next(results)


def test_items_are_taken_only_as_far_ahead_as_the_window():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = map_ordered(square, items(), context=0, workers=1, lookahead=2)
    next(results)
    assert len(taken) <= 3
    results.close()


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        next(map_ordered(square, [1], context=0, workers=-1))


def test_a_script_needs_no_main_guard_and_its_own_functions_travel(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from shiftproof.compute.processes import map_ordered

            def triple(context, item):
                return 3 * item

            print(list(map_ordered(triple, range(4), context=None, workers=2)))
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 3, 6, 9]"


# ---------------------------------------------------------------- limits


def test_an_item_that_takes_too_long_is_named(monkeypatch):
    monkeypatch.setenv("SHIFTPROOF_ITEM_SECONDS", "0.5")
    results = map_ordered(sleep_at_three, range(9), context=None, workers=1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RunError, match=r"not finished one item in 0\.5 s \(3\)"):
        next(results)


def test_a_callers_own_limit_comes_before_the_variable(monkeypatch):
    monkeypatch.setenv("SHIFTPROOF_ITEM_SECONDS", "3600")
    with engine.limit_items(0.5):
        results = map_ordered(sleep_at_three, [3], context=None, workers=1)
        with pytest.raises(RunError, match=r"in 0\.5 s \(3\).* set --timeout"):
            next(results)
    assert engine._read_time_limit() == 3600


def test_a_timeout_of_the_functions_own_comes_out():
    with pytest.raises(TimeoutError, match="of its own"):
        list(map_ordered(raise_timeout, [1], context=None, workers=1))


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none(monkeypatch, text):
    monkeypatch.setenv("SHIFTPROOF_ITEM_SECONDS", text)
    with pytest.raises(InputError, match="SHIFTPROOF_ITEM_SECONDS: expected seconds above 0"):
        next(map_ordered(square, [1], context=0, workers=1))


@pytest.mark.parametrize(
    ("context", "item"),
    [
        (None, MemoryError("Unable to allocate 8. GiB for an array")),
        (None, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))),
        (Starved(), None),
    ],
)
def test_a_worker_with_too_little_memory_is_told(context, item):
    with pytest.raises(RunError, match=r"too little memory.*fewer workers"):
        next(map_ordered(take_too_much, [item], context=context, workers=1))


def test_workers_that_do_not_start_are_told(monkeypatch):
    monkeypatch.setattr(engine, "START_SECONDS", 0.1)
    with pytest.raises(RunError, match=r"No worker process started within 0\.1 s"):
        next(map_ordered(square, [1], context=Slow(60), workers=1))


def test_workers_that_die_while_they_start_are_told():
    with pytest.raises(RunError, match="died 3 times while they started"):
        next(map_ordered(square, [1], context=Deadly(), workers=1))


def test_a_long_context_reaches_every_worker():
    assert list(map_ordered(length, [1, 2], context=b"x" * 1_000_000, workers=2)) == [1_000_000] * 2


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="long contexts go through a pipe here")
def test_workers_that_die_before_they_read_a_long_context_are_told(monkeypatch):
    """A pipe does not hold it, and nobody would ever read it."""
    resource_tracker.ensure_running()  # a program of its own, which is to be Python still
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="died 3 times while they started"):
        next(map_ordered(length, [1], context=b"x" * 1_000_000, workers=1))


def test_a_context_that_a_worker_cannot_read_is_an_error_at_once(capfd):
    with pytest.raises(ValueError, match="cannot be read"):
        next(map_ordered(square, [1], context=Unreadable(), workers=1))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSPC, errno.ENOSYS, errno.EACCES])
def test_without_room_for_semaphores_the_work_is_done_in_one_process(monkeypatch, capsys, number):
    def refuse(**options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(process_executor, "ProcessPoolExecutor", refuse)
    assert list(map_ordered(square, range(3), context=0, workers=2)) == [0, 1, 4]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Working in one process: others cannot be started here (")


# ---------------------------------------------------------------- the parent's end


@pytest.mark.parametrize("by_system", [True, False])
def test_workers_end_with_their_parent(by_system):
    """By the system, or where that does not tell, by looking."""
    script = f"""
        import os, sys, time
        from shiftproof.compute import tuning as process
        if not {by_system}:
            process._is_killed_with_parent = lambda: False
        parent = os.getpid()
        if not os.fork():
            process.end_with_parent(parent)
            print("there", flush=True)
            time.sleep(60)
        time.sleep(60)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "there\n"
        parent.kill()
        begun = time.monotonic()
        # Its end of the pipe is closed when it ends.
        assert parent.stdout.read() == ""
        assert time.monotonic() - begun < 5


def test_a_worker_whose_parent_is_gone_already_ends():
    script = (
        "from shiftproof.compute.tuning import end_with_parent; end_with_parent(1); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_garbage_is_not_looked_for_at_the_end_of_a_command_or_worker():
    script = """
        from shiftproof.compute.tuning import tune_own_process
        class Loud:
            def __del__(self):
                print("collected")
        tune_own_process()
        one = Loud()
        one.cycle = one
        del one
        print("ends")
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "ends\n"


def test_what_is_marked_leaves_no_worker_behind():
    """Also where the loop over the results is left and somebody holds on to them."""
    held = []

    @releases_locks
    def work():
        held.append(map_ordered(square, range(100), context=0, workers=1))
        next(held[0])
        return workers_of_loky()

    assert work()
    assert not workers_of_loky()


def test_what_is_asked_next_finds_the_same_workers():
    """With its own context; and so it does where nobody asked for the end of the first results."""

    @releases_locks
    def work():
        start_workers(1, ["colorsys", "no module"])
        first = map_ordered(number_of_process, [1], context="a" * 1_000_000, workers=1)
        own, *_ = next(first)
        first.close()
        [(other, *second)] = map_ordered(number_of_process, [2], context="b", workers=1)
        assert (own == other, second) == (True, ["b", 2])

    work()
    assert not workers_of_loky()


def test_workers_that_died_between_two_questions_are_replaced():
    @releases_locks
    def work():
        [(own, *_)] = map_ordered(number_of_process, [1], context=None, workers=1)
        os.kill(own, signal.SIGKILL)
        [(other, *_)] = map_ordered(number_of_process, [2], context=None, workers=1)
        assert own != other

    work()


def workers_of_loky():
    return [thread for thread in threading.enumerate() if "ExecutorManager" in thread.name]


def test_a_signal_during_the_shutdown_comes_when_it_is_through(monkeypatch):
    """What it raises would leave workers behind."""
    through = []
    shutdown = process_executor.ProcessPoolExecutor.shutdown

    def interrupted(self, **options):
        signal.raise_signal(signal.SIGINT)
        shutdown(self, **options)
        through.append(True)

    monkeypatch.setattr(process_executor.ProcessPoolExecutor, "shutdown", interrupted)
    held = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(map_ordered(square, range(3), context=0, workers=1))
    finally:
        signal.signal(signal.SIGINT, held)
    assert through
