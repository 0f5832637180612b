"""A copy that more is asked of: the missing cells alone are written, and it ends as one copy of all."""

import json
import tarfile

import pytest

from shiftproof.data import estimate_export, export_corrupted
from shiftproof.data.copies import corrupted_copy
from shiftproof.errors import InputError, RunMismatchError, UnfinishedError
from shiftproof.io import folder_locks
from shiftproof.shards import Scheduled
from support import blobs, tiny

GRID = {"corruptions": ["contrast"], "severities": [2, 4]}
MORE = {"corruptions": ["brightness", "contrast"], "severities": [2, 3, 4]}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.data.copies.changed_copy.PART_IMAGES", 2)
    tiny.write_photos(tmp_path / "photos", per_class=1)
    (tmp_path / "photos/red/torn.png").write_bytes(b"\x89PNG nothing")
    return tmp_path / "photos"


def corrupt(source, target, **options):
    return export_corrupted(
        source, target, workers=0, **{"show_progress": False, **GRID, **options}
    )


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["photos", "coco", "tars"])
def test_an_extended_copy_is_the_copy_of_all(photos, tmp_path, kind):
    source = photos
    if kind == "coco":
        source = blobs.write_blocks(tmp_path / "coco", images=2)
    if kind == "tars":
        (tmp_path / "tars").mkdir()
        with tarfile.open(tmp_path / "tars/0.tar", "w") as tar:
            for path in sorted(photos.rglob("*.png")):
                tar.add(path, path.relative_to(photos).as_posix())
        source = tmp_path / "tars"
    corrupt(source, tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy/contrast").rglob("*.*")}
    corrupt(source, tmp_path / "copy", **MORE)
    corrupt(source, tmp_path / "whole", **MORE)
    assert contents(tmp_path / "copy") == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_line_says_what_is_there_and_what_is_added(photos, tmp_path, capsys):
    def run_again(**options):
        corrupt(photos, tmp_path / "copy", show_progress=None, **options)
        return capsys.readouterr().err

    assert run_again() == ""
    assert "2 cells are there, 4 are added: brightness at 2 to 4; contrast at 3\n" in run_again(
        **MORE
    )
    manifest = (tmp_path / "copy/manifest.json").read_bytes()
    assert (
        "6 cells are there; all are kept, also what was not asked for: brightness and severity 3\n"
    ) in run_again()
    assert (tmp_path / "copy/manifest.json").read_bytes() == manifest


def test_a_copy_of_nothing_that_can_be_read_is_not_begun(photos, tmp_path):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    count = len(list(photos.rglob("*.png")))
    with pytest.raises(
        InputError, match=rf"None of the images of .*photos can be read. The first of {count}: "
    ):
        corrupt(photos, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["one.png", "one.JPG", "one.tar"])
def test_a_target_that_is_named_like_a_file_is_refused(photos, tmp_path, name):
    image = next(path for path in sorted(photos.rglob("*.png")) if path.name != "torn.png")
    message = (
        rf"got the name of a file, .*{name}\. Give for example .*/one, in which "
        rf"contrast/2/{image.name} will be written"
    )
    with pytest.raises(InputError, match=message):
        corrupt(image, tmp_path / name)
    with pytest.raises(InputError, match=message):
        estimate_export(image, tmp_path / name, workers=0, **GRID)
    assert not (tmp_path / name).exists()
    assert corrupt(image, tmp_path / "one").written == 2


def test_a_refused_copy_says_nothing_of_what_is_there(photos, tmp_path, capsys):
    corrupt(photos, tmp_path / "copy")
    with pytest.raises(RunMismatchError, match=r"seed was 0, now 1"):
        corrupt(photos, tmp_path / "copy", seed=1, severities=[2], show_progress=None)
    assert capsys.readouterr().err == ""


def test_severities_need_not_be_asked_for_in_the_order_of_before(photos, tmp_path):
    corrupt(photos, tmp_path / "copy", severities=[4, 2])
    before = contents(tmp_path / "copy")
    corrupt(photos, tmp_path / "copy", severities=[2])
    corrupt(photos, tmp_path / "copy", severities=[2, 4])
    assert contents(tmp_path / "copy") == before
    corrupt(photos, tmp_path / "copy", severities=[3])
    corrupt(photos, tmp_path / "whole", severities=[2, 3, 4])
    assert contents(tmp_path / "copy") == contents(tmp_path / "whole")


@pytest.mark.parametrize("severities", [[[2]], ["2", 4], [None, 4]])
def test_a_copy_whose_severities_are_no_numbers_is_refused(photos, tmp_path, severities):
    corrupt(photos, tmp_path / "copy")
    manifest = tmp_path / "copy/manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "severities": severities}))
    with pytest.raises(RunMismatchError, match=r"severities was .*, now 2, 4"):
        corrupt(photos, tmp_path / "copy")


def test_a_dry_run_is_of_the_new_cells(photos, tmp_path):
    corrupt(photos, tmp_path / "copy")
    before = contents(tmp_path / "copy")
    estimate = estimate_export(photos, tmp_path / "copy", workers=0, **MORE)
    assert estimate.cells == 4
    assert estimate.extent == (
        "2 cells are there, 4 are added: brightness at 2 to 4; contrast at 3"
    )
    assert contents(tmp_path / "copy") == before


def test_what_is_another_copy_is_refused(photos, tmp_path):
    def lighten(image, severity, rng):
        return image

    corrupt(photos, tmp_path / "copy", corruptions={"contrast": lighten})
    before = contents(tmp_path / "copy")
    with pytest.raises(RunMismatchError, match=r"corruptions: contrast was .*lighten"):
        corrupt(photos, tmp_path / "copy", **MORE)
    with pytest.raises(RunMismatchError, match=r"the corruption contrast, too \(.*lighten"):
        corrupt(photos, tmp_path / "copy", corruptions=["brightness"])
    with pytest.raises(RunMismatchError, match="seed was 0, now 1"):
        corrupt(photos, tmp_path / "copy", corruptions={"contrast": lighten, "fog": "fog"}, seed=1)
    assert contents(tmp_path / "copy") == before
    corrupt(
        photos, tmp_path / "copy", corruptions={"contrast": lighten, "brightness": "brightness"}
    )
    assert list(json.loads((tmp_path / "copy/manifest.json").read_text())["corruptions"]) == [
        "contrast", "brightness",
    ]  # fmt: skip


def test_a_kill_in_the_middle_costs_nothing(photos, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Instead of a signal."""

    corrupt(photos, tmp_path / "copy")
    change = corrupted_copy.corrupt
    calls = []

    def kill(*args, **options):
        calls.append(args)
        if len(calls) == 5:
            raise Killed
        return change(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(corrupted_copy, "corrupt", kill)
        with pytest.raises(Killed):
            corrupt(photos, tmp_path / "copy", **MORE)
    # The command of before goes on with all that was asked for.
    corrupt(photos, tmp_path / "copy")
    corrupt(photos, tmp_path / "whole", **MORE)
    assert contents(tmp_path / "copy") == contents(tmp_path / "whole")


class TestWorkers:
    def test_agree_on_the_larger_copy(self, photos, tmp_path):
        with pytest.raises(UnfinishedError):
            corrupt(photos, tmp_path / "copy", backend=Scheduled(0, 2))
        for worker in (2, 0):
            with pytest.raises(UnfinishedError):
                corrupt(photos, tmp_path / "copy", backend=Scheduled(worker, 3), **MORE)
        corrupt(photos, tmp_path / "copy", backend=Scheduled(1, 3))
        corrupt(photos, tmp_path / "whole", **MORE)
        assert contents(tmp_path / "copy") == contents(tmp_path / "whole")

    def test_are_not_extended_while_they_are_at_work(self, photos, tmp_path):
        with pytest.raises(UnfinishedError):
            corrupt(photos, tmp_path / "copy", backend=Scheduled(0, 2))
        before = contents(tmp_path / "copy")
        with folder_locks._lock(tmp_path / "copy", shared=True):
            with pytest.raises(InputError, match="Another command is running"):
                corrupt(photos, tmp_path / "copy", backend=Scheduled(1, 2), **MORE)
            found = contents(tmp_path / "copy")
            found.pop(".shiftproof.lock")
            assert found == before
