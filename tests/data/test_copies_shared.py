"""A copy that several workers write: the same bytes as one alone, annotations with it."""

import tarfile

import pytest

from shiftproof.data import export_corrupted
from shiftproof.errors import RunError, RunMismatchError, UnfinishedError
from shiftproof.shards import Scheduled
from support import tiny


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    found.pop(".shiftproof.lock", None)
    return found


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.data.copies.changed_copy.PART_IMAGES", 2)
    tiny.write_photos(tmp_path / "photos", per_class=2)
    (tmp_path / "photos/red/note.txt").write_text("kept as it is")
    (tmp_path / "photos/red/torn.png").write_bytes(b"\x89PNG nothing")
    return tmp_path / "photos"


def corrupt(photos, target, backend=None, **options):
    grid = {"corruptions": ["contrast", "brightness"], "severities": [2, 4], "show_progress": False}
    return export_corrupted(photos, target, workers=0, backend=backend, **{**grid, **options})


def test_workers_write_what_one_command_writes(photos, tmp_path):
    alone = corrupt(photos, tmp_path / "one")
    for worker in (1, 2):
        with pytest.raises(UnfinishedError, match=r"Corrupting: .* of 5 parts.*--of 3\)"):
            corrupt(photos, tmp_path / "shared", Scheduled(worker, 3))
    done = corrupt(photos, tmp_path / "shared", Scheduled(0, 3))
    assert contents(tmp_path / "shared") == contents(tmp_path / "one")
    assert (done.written, done.carried, done.broken) == (alone.written, alone.carried, alone.broken)
    assert list(done.broken) == ["red/torn.png"]


def test_a_copy_that_is_there_is_not_made_again(photos, tmp_path):
    corrupt(photos, tmp_path / "copy")
    before = contents(tmp_path / "copy")
    done = corrupt(photos, tmp_path / "copy", Scheduled(0, 1))
    assert (done.written, done.kept) == (0, 6 * 4)
    assert contents(tmp_path / "copy") == before


def test_workers_of_another_copy_are_refused(photos, tmp_path):
    with pytest.raises(UnfinishedError):
        corrupt(photos, tmp_path / "copy", Scheduled(0, 2))
    with pytest.raises(RunMismatchError, match="seed was 0, now 1"):
        corrupt(photos, tmp_path / "copy", Scheduled(1, 2), seed=1)


def test_a_tar_is_a_part(photos, tmp_path):
    (tmp_path / "tars").mkdir()
    for name in ("green", "blue"):
        with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as tar:
            for path in sorted((photos / name).iterdir()):
                tar.add(path, path.name)
    corrupt(tmp_path / "tars", tmp_path / "one")
    with pytest.raises(UnfinishedError, match="2 of 3 parts"):
        corrupt(tmp_path / "tars", tmp_path / "shared", Scheduled(0, 2))
    corrupt(tmp_path / "tars", tmp_path / "shared", Scheduled(1, 2))
    assert contents(tmp_path / "shared") == contents(tmp_path / "one")


def test_a_machine_that_does_not_see_the_source_writes_nothing(photos, tmp_path):
    class Elsewhere(Scheduled):
        def work(self, function, context, parts, shards):
            photos.rename(tmp_path / "away")
            yield from super().work(function, context, parts, shards)

    with pytest.raises(
        RunError, match=r"a machine of the cluster, cannot access .*photos: there is"
    ):
        corrupt(photos, tmp_path / "copy", Elsewhere(0, 1))
