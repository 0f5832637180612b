import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shiftproof.engine import map_ordered
from shiftproof.errors import RunError


def square(context, item):
    return context + item * item


def die_once(flag, item):
    if item == 5 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_always(context, item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(context, item):
    if item == 4:
        raise ValueError("item four")
    return item


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
            from shiftproof.engine import map_ordered

            def triple(context, item):
                return 3 * item

            print(list(map_ordered(triple, range(4), context=None, workers=2)))
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 3, 6, 9]"
