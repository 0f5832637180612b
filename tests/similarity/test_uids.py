"""Uids of any form: the kept rows are always written, DataComp's list only if possible."""

import json
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof import cli
from shiftproof.errors import InputError
from shiftproof.similarity import open_embeddings, read_datacomp, write_datacomp
from shiftproof.similarity.keeping import write_deduplicated
from support.embedding_trees import uid, unit_rows

ROWS = np.concatenate([unit_rows(20, seed=1), unit_rows(1, seed=1)])
"""The last row is a copy of the first."""


def source(folder, column, name="uid"):
    folder.mkdir()
    np.save(folder / "rows.npy", ROWS)
    pq.write_table(pa.table({name: column}), folder / "rows.parquet")
    return folder


MISFITS = {
    "text": ([f"img_{row}" for row in range(21)], "row 0.*'img_0'"),
    "whole numbers": (list(range(21)), "row 0.*'0'"),
    "one null": ([uid(0, row) for row in range(20)] + [None], "row 20.*got nothing"),
    "all null": (pa.array([None] * 21, pa.string()), "row 0.*got nothing"),
    "one of numbers missing": ([7.0] * 20 + [float("nan")], "row 0.*'7.0'"),
    "longer": ([uid(0, row) * 2 for row in range(21)], "row 0"),
    "shorter": ([uid(0, row)[1:] for row in range(21)], "row 0"),
    "a negative half": ([uid(0, row) for row in range(20)] + ["-" + "0" * 31], "row 20"),
    "an underscore": ([uid(0, row) for row in range(20)] + ["0" * 15 + "_" + "0" * 16], "row 20"),
    "dashes elsewhere": (["0-" + "0" * 31] * 21, "row 0"),
    "empty text": ([""] * 21, "row 0.*''"),
    "lists": ([[row] for row in range(21)], "row 0"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_uid_of_another_form_stops_nothing(tmp_path, capsys, name):
    column, reason = MISFITS[name]
    folder = source(tmp_path / "train", column)
    assert cli.run(["dedup", str(folder), "-w", "0", "-o", str(tmp_path / "out")]) == 0
    assert np.load(tmp_path / "out" / "keep.npy").tolist() == [True] * 20 + [False]
    assert not (tmp_path / "out" / "uids.npy").exists()
    assert pq.read_table(tmp_path / "out" / "keys.parquet").num_rows == 20
    content = json.loads((tmp_path / "out" / "keep.json").read_text())
    assert "uids.npy" not in content["files"]
    with pytest.raises(InputError, match=reason):
        raise InputError(content["no_uids"])
    assert "No uids.npy will be written" in capsys.readouterr().err
    with pytest.raises(InputError, match="32 hex digits"):
        write_datacomp(tmp_path / "list.npy", open_embeddings(folder), np.ones(21, bool))


@pytest.mark.parametrize("words", [["prune", "--rule", "random"], ["coreset"]], ids=" ".join)
def test_nor_do_prune_and_coreset_stop(tmp_path, capsys, words):
    folder = source(tmp_path / "train", [f"img_{row}" for row in range(21)])
    np.save(tmp_path / "t.npy", unit_rows(5, seed=3))
    verb, *rule = words
    more = ["-t", str(tmp_path / "t.npy"), "--size", "7", "-w", "0", "-o", str(tmp_path / "out")]
    assert cli.run([verb, str(folder), *rule, *more, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["kept"] == 7
    assert "'img_0'" in shown.err
    assert np.load(tmp_path / "out" / "keep.npy").sum() == 7


def test_it_is_said_before_the_search(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        "shiftproof.similarity.keeping.deduplicate_in_parts", lambda *_, **__: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        write_deduplicated(source(tmp_path / "t", list(range(21))), tmp_path / "o", say=said.append)
    assert len(said) == 1


@pytest.mark.parametrize("spell", [str, lambda u: u.hex.upper(), lambda u: str(u).encode()])
def test_a_uuid_is_the_same_128_bits(tmp_path, spell):
    uuids = [uuid.UUID(int=row << 100 | row) for row in range(21)]
    folder = source(tmp_path / "train", [spell(each) for each in uuids])
    summary = write_deduplicated(folder, tmp_path / "out")
    assert summary["no_uids"] is None
    halves = [tuple(map(int, pair)) for pair in read_datacomp(tmp_path / "out" / "uids.npy")]
    assert halves == [divmod(each.int, 2**64) for each in uuids[:20]]


def test_a_uid_of_which_one_copy_goes_costs_the_list_alone(tmp_path):
    uids = [uid(0, row) for row in range(20)] + [uid(0, 0)]
    summary = write_deduplicated(source(tmp_path / "train", uids), tmp_path / "out")
    assert summary["kept"] == 20
    assert "1 uid is shared" in summary["no_uids"]
    assert not (tmp_path / "out" / "uids.npy").exists()


def test_metadata_without_any_key(tmp_path):
    folder = source(tmp_path / "train", ["a caption"] * 21, name="caption")
    summary = write_deduplicated(folder, tmp_path / "out")
    assert summary["files"] == ["keep.npy", "keys.parquet"]
    assert summary["no_uids"] is None
    keys = pq.read_table(tmp_path / "out" / "keys.parquet")["key"].to_pylist()
    assert keys == [None] * 20


def test_a_key_that_is_missing_stays_missing(tmp_path):
    folder = source(tmp_path / "train", ["None", None] + ["k"] * 19, name="key")
    write_deduplicated(folder, tmp_path / "out")
    keys = pq.read_table(tmp_path / "out" / "keys.parquet")["key"].to_pylist()
    assert keys == ["None", None] + ["k"] * 18
    assert open_embeddings(folder).keys(0)[:2] == ["None", None]
