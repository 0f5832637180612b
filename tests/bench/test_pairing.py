"""Models of several runs, ranked together from their records."""

import msgspec
import pytest

from shiftproof import bench
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.runs import load_run
from support import finished_runs
from support.simulated_runs import GRID, draw_tables, write_run

COUNT = 120


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two models, and each of them in a run of its own."""
    folder = tmp_path_factory.mktemp("pairing")
    tables = draw_tables(COUNT, hope=0.02)
    write_run(folder / "both", tables)
    write_run(folder / "one", {"source": tables["source"]})
    write_run(folder / "two", {"source": tables["BN"]})
    return folder


def test_models_of_two_runs_are_paired_as_those_of_one(runs):
    together = load_run(runs / "both").scores.ranking
    apart = bench.rank_runs([runs / "one", runs / "two"])
    called = {"one: source": "source", "two: source": "BN"}
    assert {one.name for one in apart.places} == set(called)
    assert [called[one.name] for one in apart.places] == [one.name for one in together.places]
    [mine], [theirs] = apart.pairs, together.pairs
    assert msgspec.structs.replace(mine, name=called[mine.name], against=called[mine.against]) == (
        theirs
    )


def test_runs_of_other_images_or_cells_are_not_paired(runs, tmp_path):
    write_run(tmp_path / "few", draw_tables(COUNT // 2))
    with pytest.raises(RunMismatchError, match="few and both have other images"):
        bench.rank_runs([runs / "both", tmp_path / "few"])
    write_run(tmp_path / "part", draw_tables(COUNT, cells=GRID[:2]))
    with pytest.raises(RunMismatchError, match="other cells"):
        bench.rank_runs([runs / "both", tmp_path / "part"])


def test_runs_of_other_classes_are_not_paired(runs, tmp_path):
    tables = draw_tables(COUNT)
    write_run(tmp_path / "other", tables)
    text = (tmp_path / "other/classes.json").read_text().replace('"a"', '"z"')
    (tmp_path / "other/classes.json").write_text(text)
    with pytest.raises(RunMismatchError, match="other classes, or objects"):
        bench.rank_runs([runs / "both", tmp_path / "other"])


def test_a_task_of_ones_own_must_be_given(tmp_path):
    finished_runs.run_own_task(tmp_path / "run")
    with pytest.raises(InputError, match="expected its task"):
        bench.rank_runs([tmp_path / "run", tmp_path / "run"])
