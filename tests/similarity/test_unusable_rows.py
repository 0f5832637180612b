"""Sides of which no row can be used, and what is neither a row nor a class."""

import numpy as np
import pytest

from shiftproof import cli
from shiftproof.errors import InputError
from shiftproof.shards import Local
from shiftproof.similarity import (
    Sharding,
    accuracy_by_similarity,
    approximate_top_k,
    audit,
    by_class,
    coreset,
    deduplicate,
    gap,
    open_embeddings,
    prune,
    prune_in_parts,
    prune_to,
    top_k,
    write_keys,
)
from shiftproof.similarity.subset import write_subset
from support.embedding_trees import unit_rows

ROWS, TEST = unit_rows(30, seed=1, dtype=np.float32), {"t": unit_rows(5, seed=2, dtype=np.float32)}


def unusable(value):
    return open_embeddings(np.full((7, 16), value, dtype=np.float32), unusable="skip")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 3.0])
def test_a_reference_of_which_no_row_can_be_used(tmp_path, value):
    words = {"reference": unusable(value)}
    sharding = Sharding(tmp_path / "parts", Local(0))
    for search in (
        lambda: prune(ROWS, TEST, **words),
        lambda: prune_in_parts(ROWS, TEST, sharding, **words),
        lambda: gap(ROWS, TEST, **words),
        lambda: audit(ROWS, TEST, tmp_path / "audit", sharding=sharding, **words),
    ):
        with pytest.raises(InputError, match="None of the reference rows can be used"):
            search()


def test_a_training_set_of_which_no_row_can_be_used(tmp_path):
    rows, sharding = unusable(np.nan), Sharding(tmp_path / "parts", Local(0))
    for search in (
        lambda: prune(rows, TEST, thresholds={"t": 0.5}),
        lambda: prune_in_parts(rows, TEST, sharding, thresholds={"t": 0.5}),
        lambda: gap(rows, TEST),
        lambda: prune_to(rows, TEST, 1, "near"),
        lambda: coreset(rows, TEST, 1),
        lambda: deduplicate(rows),
        lambda: approximate_top_k(rows, TEST, clusters=1, probes=1),
    ):
        with pytest.raises(InputError, match="can be used"):
            search()


def test_the_command_says_so_and_removes_nothing(tmp_path, capsys):
    np.save(tmp_path / "train.npy", ROWS)
    np.save(tmp_path / "t.npy", TEST["t"])
    np.save(tmp_path / "reference.npy", np.zeros((4, 16), np.float32))
    words = ["prune", str(tmp_path / "train.npy"), "-t", str(tmp_path / "t.npy"), "-w", "0"]
    more = ["--reference", str(tmp_path / "reference.npy"), "--unusable", "skip"]
    assert cli.run([*words, *more, "-o", str(tmp_path / "out")]) == 2
    assert "None of the reference rows can be used" in capsys.readouterr().err
    assert not (tmp_path / "out" / "keep.npy").exists()


def test_a_test_set_is_not_told_to_skip(tmp_path, capsys):
    test = TEST["t"].copy()
    test[3] = np.nan
    np.save(tmp_path / "train.npy", ROWS)
    np.save(tmp_path / "t.npy", test)
    words = ["audit", str(tmp_path / "train.npy"), "-t", str(tmp_path / "t.npy"), "-w", "0"]
    assert cli.run([*words, "--unusable", "skip", "-o", str(tmp_path / "out")]) == 2
    output = capsys.readouterr().err.replace("\n", " ")
    assert "row 3 holds NaN" in output
    assert "rows of a test set are not skipped" in output
    assert "'skip'" not in output
    with pytest.raises(InputError, match="not skipped"):
        prune(ROWS, {"t": test}, thresholds={"t": 0.5})


# ---------------------------------------------------------------- flags, classes, answers


@pytest.mark.parametrize("keep", [np.arange(30), np.ones(30), np.array(["x"] * 30)], ids=str)
def test_places_in_place_of_flags_are_refused(tmp_path, keep):
    rows = open_embeddings(ROWS)
    for use in (
        lambda: top_k(ROWS, TEST["t"], keep=keep),
        lambda: coreset(ROWS, TEST, 3, among=keep),
        lambda: write_keys(tmp_path / "k", rows, keep),
        lambda: write_subset(ROWS, keep, tmp_path / "subset"),
    ):
        with pytest.raises(InputError, match="true or false"):
            use()


def test_classes_may_be_texts():
    assert by_class([1.0, 2.0, 4.0], ["dog", "cat", "dog"]) == {"cat": 2.0, "dog": 2.5}
    assert by_class([1.0, 2.0], np.array(["b", "a"], dtype=object)) == {"a": 2.0, "b": 1.0}
    assert by_class([1.0, 2.0, 4.0], [3.0, 1.0, 3.0]) == {1: 2.0, 3: 2.5}


@pytest.mark.parametrize(
    "labels", [[0.0, np.nan], [0, np.inf], [0.5, 1.0], [None, "a"], [None, None], [1j, 2j]]
)
def test_labels_that_name_no_class(labels):
    with pytest.raises(InputError, match="whole numbers or texts"):
        by_class([1.0, 2.0], labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_accuracy_by_similarity_refuses_what_is_no_similarity(value):
    with pytest.raises(InputError, match=r"finite similarities.*row 1"):
        accuracy_by_similarity([0.5, value, 0.2], [True, False, True], bins=1)


def test_accuracy_by_similarity_takes_right_or_wrong():
    for correct in ([1, 0, 1], [1.0, 0.0, 1.0]):
        found = accuracy_by_similarity([0.5, 0.1, 0.2], correct, bins=1)
        assert found.accuracy.tolist() == [2 / 3]
    for correct in ([1, np.nan, 0], [1, 2, 0], ["y", "n", "y"]):
        with pytest.raises(InputError, match="true or false"):
            accuracy_by_similarity([0.5, 0.1, 0.2], correct, bins=1)


def test_rows_that_are_just_as_near_count_as_found():
    rows = np.repeat(np.eye(4, 16, dtype=np.float32), 60, axis=0)
    found = approximate_top_k(rows, {"t": rows[:30]}, 9, clusters=4, probes=4)["t"]
    assert found.recall == 1
    assert (found.similarity == 1).all()
