"""The executor: the same bytes everywhere, and what a killed worker, a killed driver, a full disk cost."""

import contextlib
import errno

import numpy as np
import pytest

from shiftproof.errors import (
    BrokenFileError,
    InputError,
    RunError,
    RunMismatchError,
    UnfinishedError,
)
from shiftproof.io import files
from shiftproof.shards import Job, Local, PartFolder, Scheduled, merge_parts, run_shards
from support.counting_job import (
    contents,
    counting,
    driver_with_parts,
    joined,
    list_processes,
    squares,
)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected") / "parts"
    run_shards(counting(), folder, Local(0))
    return contents(folder)


def test_a_part_holds_what_the_function_gave(tmp_path):
    parts = run_shards(counting(3), tmp_path / "parts", Local(0))
    read = list(parts.each())
    np.testing.assert_array_equal(read[2]["values"], [20, 21, 24, 29, 36])
    assert [str(part["name"]) for part in read] == ["shard 0", "shard 1", "shard 2"]
    with np.load(parts.part_file(1)) as archive:
        assert archive.files == ["values", "name"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_no_byte(tmp_path, expected, workers):
    run_shards(counting(), tmp_path / "parts", Local(workers))
    assert contents(tmp_path / "parts") == expected


class Interrupted(Local):
    """An engine whose command is interrupted while it shows a part."""

    ended = False

    def work(self, *given):
        try:
            yield from super().work(*given)
        finally:
            Interrupted.ended = True


def test_a_process_goes_on_to_the_next_part_with_what_it_has_imported(tmp_path):
    assert len(list_processes(tmp_path / "parts", 6, Local(2))) <= 2


def test_an_engine_has_ended_when_its_command_is_interrupted(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def interrupt(*_, **__):
        def advance(**_):
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr("shiftproof.shards.job.progress", interrupt)
    with pytest.raises(KeyboardInterrupt) as kept:  # its frames hold the engine
        run_shards(counting(3), tmp_path / "parts", Interrupted(0))
    assert Interrupted.ended
    assert kept.tb is not None


def test_a_killed_worker_costs_nothing(tmp_path, expected):
    run_shards(counting(die=str(tmp_path / "died")), tmp_path / "parts", Local(2))
    assert (tmp_path / "died").exists()
    assert contents(tmp_path / "parts") == expected


def test_a_shard_that_kills_every_worker_ends_the_work_and_leaves_the_others(tmp_path):
    with pytest.raises(RunError, match=r"died 3 times .*\(3\)"):
        run_shards(counting(always=True), tmp_path / "parts", Local(1))
    assert {0, 1, 2}.isdisjoint(PartFolder(tmp_path / "parts", 8).missing())


def test_a_killed_driver_costs_the_shards_under_way(tmp_path, expected):
    folder = tmp_path / "parts"
    with driver_with_parts(folder, "Local(2)", 2) as driver:
        driver.kill()
    missing = PartFolder(folder, 8).missing()
    assert 0 < len(missing) <= 6
    begun = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.npz")}
    run_shards(counting(), folder, Local(2))
    assert contents(folder) == expected
    assert all((folder / name).stat().st_mtime_ns == when for name, when in begun.items())


def test_a_full_disk_costs_the_shard_that_met_it(tmp_path, expected, monkeypatch):
    whole = files.atomic
    written = []

    def full(path, **options):
        written.append(path)
        if path.name == "part-00004.npz":
            raise files.explain_disk_error(path, OSError(errno.ENOSPC, "No space left on device"))
        return whole(path, **options)

    monkeypatch.setattr(files, "atomic", full)
    with pytest.raises(RunError, match="The disk is full"):
        run_shards(counting(), tmp_path / "parts", Local(0))
    monkeypatch.undo()
    assert PartFolder(tmp_path / "parts", 8).missing() == [4, 5, 6, 7]
    run_shards(counting(), tmp_path / "parts", Local(0))
    assert contents(tmp_path / "parts") == expected


def test_what_is_there_is_not_done_again(tmp_path):
    run_shards(counting(), tmp_path / "parts", Local(0))
    PartFolder(tmp_path / "parts", 8).part_file(5).unlink()
    run_shards(counting(broken=[0, 1, 2, 3, 4, 6, 7]), tmp_path / "parts", Local(0))


def test_what_the_function_raises_comes_out(tmp_path):
    with pytest.raises(ValueError, match="shard 2 cannot be read"):
        run_shards(counting(broken=[2]), tmp_path / "parts", Local(1))
    assert PartFolder(tmp_path / "parts", 8).missing()[0] == 2


# ---------------------------------------------------------------- batch schedulers


def test_workers_of_a_scheduler_share_the_shards_and_the_last_one_merges(tmp_path, expected):
    folder = tmp_path / "parts"
    with pytest.raises(UnfinishedError, match=r"3 of 8 parts .* missing: 0, 2, 3, 5, 6"):
        run_shards(counting(), folder, Scheduled(1, 3))
    with pytest.raises(UnfinishedError, match=r"missing: 2, 5 \(of worker 2, --of 3\)"):
        run_shards(counting(), folder, Scheduled(0, 3))
    run_shards(counting(), folder, Scheduled(2, 3))
    assert contents(folder) == expected


@pytest.mark.parametrize(("worker", "of"), [(-1, 3), (3, 3)])
def test_a_worker_that_is_none(worker, of):
    with pytest.raises(InputError, match="Expected worker 0 to"):
        Scheduled(worker, of)


# ---------------------------------------------------------------- folders


def test_another_jobs_folder_is_refused(tmp_path):
    run_shards(counting(2), tmp_path / "parts", Local(0))
    with pytest.raises(RunMismatchError, match="shards was 2, now 3"):
        run_shards(counting(3), tmp_path / "parts", Local(0))
    cubes = Job("squares", squares, {}, 2, {"power": 3})
    with pytest.raises(RunMismatchError, match="power was 2, now 3"):
        run_shards(cubes, tmp_path / "parts", Local(0))


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(InputError, match="not empty and holds no parts"):
        run_shards(counting(2), tmp_path, Local(0))


def test_a_damaged_part_is_named(tmp_path):
    parts = run_shards(counting(2), tmp_path / "parts", Local(0))
    parts.part_file(1).write_bytes(parts.part_file(1).read_bytes()[:100])
    with pytest.raises(BrokenFileError, match=r"part-00001\.npz: damaged .* Delete it"):
        list(parts.each())


def test_a_negative_number_of_workers():
    with pytest.raises(InputError, match="0 or more"):
        Local(-1)


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 300])
def test_parts_are_merged_in_their_order(count):
    parts = [squares({}, shard) for shard in range(count)]
    merged = merge_parts(parts, joined)
    assert str(merged["name"]) == "+".join(f"shard {shard}" for shard in range(count))
    assert len(merged["values"]) == 5 * count


def test_few_parts_are_held_at_a_time():
    held, most = set(), 0

    def parts():
        nonlocal most
        for number in range(500):
            held.add(number)
            most = max(most, len(held))
            yield [number]

    def together(group):
        merged = [number for part in group for number in part]
        held.difference_update(merged)
        return merged

    assert merge_parts(parts(), together) == list(range(500))
    assert most <= 16
