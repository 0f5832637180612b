"""Whose folder it is: what a killed command leaves is nobody's, a stranger's is refused in a sentence."""

import json

import pytest

from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.io import manifest

SETTINGS = {"kind": "test", "settings": {"seed": 1, "data": {"name": "a", "images": 3}}}


def begin(folder, settings=SETTINGS, **options):
    return manifest.begin(folder, "run.json", settings, what="a run", **options)


def test_a_new_folder_says_what_it_holds_and_is_gone_on_with(tmp_path):
    begun = begin(tmp_path / "out", about={"provenance": "first"})
    assert begun == {"format": 1, **SETTINGS, "provenance": "first"}
    assert begin(tmp_path / "out", about={"provenance": "second"}) == begun
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == begun


def test_what_a_killed_command_leaves_counts_as_empty(tmp_path):
    (tmp_path / ".run.json.abcd1234.part").write_bytes(b"{")
    (tmp_path / ".shiftproof.lock").write_bytes(b"")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / ".metadata_0.parquet.abcd1234.part").write_bytes(b"")
    begin(tmp_path, subfolders=("metadata",))


@pytest.mark.parametrize("theirs", ["photo.png", "metadata/notes.txt", "empty/"])
def test_what_a_stranger_has_there_is_refused_and_stays(tmp_path, theirs):
    path = tmp_path / theirs
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if theirs.endswith("/") else path.touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="is not empty and holds no run"):
        begin(tmp_path, subfolders=("metadata",))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="out is a file; expected a folder"):
        begin(tmp_path / "out")


def test_other_settings_are_named(tmp_path):
    begin(tmp_path)
    other = {"kind": "test", "settings": {"seed": 2, "data": {"name": "a", "images": 4}}}
    with pytest.raises(RunMismatchError, match=r"seed was 1, now 2; .*images was 3, now 4"):
        begin(tmp_path, other)


def test_settings_with_an_earlier_spelling_are_the_same(tmp_path):
    begin(tmp_path, {"settings": {"data": {"labelled": False}}})
    begin(tmp_path, {"settings": {"data": {"labeled": False}}})
    with pytest.raises(RunMismatchError, match="data: labeled was no, now yes"):
        begin(tmp_path, {"settings": {"data": {"labeled": True}}})


def test_what_data_are_called_may_be_of_no_account(tmp_path):
    begin(tmp_path)
    other = {"kind": "test", "settings": {"seed": 1, "data": {"name": "b", "images": 3}}}
    begin(tmp_path, other, ignored=("name",))
    with pytest.raises(RunMismatchError, match="data: name was a, now b"):
        begin(tmp_path, other)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"run"', "{", "", "\x00"])
def test_a_file_that_holds_no_settings_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(BrokenFileError, match=r"run\.json"):
        begin(tmp_path)


@pytest.mark.parametrize("strange", [None, 3, [1], "text", {"seed": {"a": []}}, {"data": 5}, {}])
@pytest.mark.parametrize("key", ["kind", "settings"])
def test_settings_of_any_other_type_are_other_settings(tmp_path, key, strange):
    (tmp_path / "run.json").write_text(json.dumps({**SETTINGS, key: strange}))
    with pytest.raises(RunMismatchError, match="with other settings"):
        begin(tmp_path, ignored=("name",))
