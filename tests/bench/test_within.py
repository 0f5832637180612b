"""Detectors and segmenters on as many images as a budget of time allows."""

import functools

import pytest

from shiftproof import bench
from shiftproof.bench.other_runs import within
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.runs.budget import NOTE
from support import blobs

pytestmark = pytest.mark.usefixtures("few_resamples")

GRID = blobs.GRID
HOURS = 1e6


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    data = blobs.write_blocks(tmp_path_factory.mktemp("many") / "data", images=14)
    (data / "images/003.png").write_bytes(b"no picture")
    return data


@pytest.fixture
def small_rounds(monkeypatch):
    monkeypatch.setattr(within, "FIRST_ROUND", 4)


def records_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "records").rglob("*.parquet"))
    }


def run_within(data, out, budget, **options):
    task = bench.Detection()
    return bench.run_within(
        blobs.make_detector(),
        data,
        task=task,
        budget=budget,
        out=out,
        batch_size=3,
        **GRID,
        **options,
    )


def run_on(data, images, out):
    task = bench.Detection()
    return bench.run(
        blobs.make_detector(), data, task=task, images=images, out=out, batch_size=3, **GRID
    )


@pytest.mark.usefixtures("small_rounds")
def test_a_budget_that_is_over_at_once_measures_one_round(many, tmp_path):
    run = run_within(many, tmp_path / "run", 1e-9)
    assert run.scores.images.total == 4
    alone = run_on(many, 4, tmp_path / "alone")
    assert records_of(run.path) == records_of(alone.path)
    assert run.scores.models == alone.scores.models
    assert run.settings == alone.settings
    assert run.scores.interval.method == f"{alone.scores.interval.method}; {NOTE}"


@pytest.mark.usefixtures("small_rounds")
def test_a_larger_budget_asks_the_other_images_alone(many, tmp_path, monkeypatch):
    first = run_within(many, tmp_path / "run", 1e-9)
    request_of_all = run_on(many, None, tmp_path / "whole")
    seen = []
    find = blobs.find_blocks

    @functools.wraps(find)
    def count(images):
        seen.extend(images)
        return find(images)

    monkeypatch.setattr(blobs, "find_blocks", count)
    before, cells = first.scores.used, 5
    run = run_within(many, tmp_path / "run", HOURS)
    assert len(seen) == cells * (request_of_all.scores.used - before)
    assert records_of(run.path) == records_of(request_of_all.path)
    assert run.scores == request_of_all.scores
    assert not (run.path / "rounds").exists()


@pytest.mark.usefixtures("small_rounds")
def test_an_interrupted_round_is_taken_up(many, tmp_path, monkeypatch):
    join = within._Rounds._join_rounds

    def fail(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(within._Rounds, "_join_rounds", fail)
    with pytest.raises(KeyboardInterrupt):
        run_within(many, tmp_path / "run", HOURS)
    assert len(list((tmp_path / "run/rounds").iterdir())) == 3
    (tmp_path / "run/rounds/0003/records/source/contrast-5.parquet").unlink()
    (tmp_path / "run/rounds/0003/round.json").write_text('{"images": 14, "seconds": null}')
    monkeypatch.setattr(within._Rounds, "_join_rounds", join)
    run = run_within(many, tmp_path / "run", HOURS)
    assert records_of(run.path) == records_of(run_on(many, None, tmp_path / "whole").path)


@pytest.mark.usefixtures("small_rounds")
def test_all_cells_have_the_same_images(many, tmp_path):
    run = run_within(many, tmp_path / "run", 1e-9)
    cells = [("clean", 0), ("gaussian_noise", 1), ("contrast", 5)]
    found = [tuple(run.cell("source", *cell).ids) for cell in cells]
    assert len(set(found)) == 1


@pytest.mark.usefixtures("small_rounds")
def test_a_run_without_a_budget_or_with_other_settings_is_left_alone(many, tmp_path):
    run_on(many, 4, tmp_path / "plain")
    before = records_of(tmp_path / "plain")
    with pytest.raises(RunMismatchError, match="without a budget"):
        run_within(many, tmp_path / "plain", HOURS)
    assert records_of(tmp_path / "plain") == before
    run_within(many, tmp_path / "run", 1e-9)
    with pytest.raises(RunMismatchError, match="seed was 0, now 1"):
        run_within(many, tmp_path / "run", 1e-9, seed=1)


def test_classifiers_and_budgets_of_nothing_are_refused(many, tmp_path):
    with pytest.raises(InputError, match="run_anytime"):
        bench.run_within(
            "demo", "demo", task=bench.Classification(), budget=1, out=tmp_path / "run"
        )
    for budget in (0, -1, float("nan"), float("inf"), True):
        with pytest.raises(InputError, match="budget above 0"):
            run_within(many, tmp_path / "run", budget)
    assert not (tmp_path / "run").exists()
