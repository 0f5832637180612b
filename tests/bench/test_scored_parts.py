"""Results that several workers score together: what each keeps for the last one, and what is refused."""

import dataclasses
import json

import pytest

from shiftproof import bench, cli
from shiftproof.bench.scoring import cell_parts, detectors
from shiftproof.bench.tasks.detection import task as detection
from shiftproof.errors import BrokenFileError, InputError, RunError, UnfinishedError
from shiftproof.shards import Scheduled
from support import scored_results
from support.few_resamples import set_replicates
from support.run_files import everything
from support.sent import Sent

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture
def results(tmp_path):
    return scored_results.make("coco", None, tmp_path / "results")


def score(results, out, backend=None):
    data, models = results
    return bench.score(models, data, out=out, workers=0, backend=backend)


def faults_of(run):
    return json.loads((run / "run.json").read_text())["result_faults"]


def test_the_last_worker_matches_only_what_no_other_did(results, tmp_path, monkeypatch):
    one = score(results, tmp_path / "one")
    with pytest.raises(UnfinishedError, match=r"Score: 3 of 6 parts .*\(of worker 1, --of 2\)"):
        score(results, tmp_path / "run", Scheduled(0, 2))
    measured = []
    measure = detectors.measure_cell

    def note(by, path):
        measured.append(path.stem)
        return measure(by, path)

    for module in (detection, detectors):
        monkeypatch.setattr(module, "measure_cell", note)
    score(results, tmp_path / "run", Scheduled(1, 2))
    assert len(measured) == 3
    assert everything(tmp_path / "run") == everything(one.path)
    assert not (tmp_path / "run" / "cache").exists()


def test_the_faults_of_all_workers_are_told(results, tmp_path):
    score(results, tmp_path / "one")
    with pytest.raises(UnfinishedError):
        score(results, tmp_path / "run", Scheduled(1, 2))
    score(results, tmp_path / "run", Scheduled(0, 2))
    faults = faults_of(tmp_path / "run")
    assert [len(cells) for cells in faults.values()] == [3, 3]
    assert json.dumps(faults) == json.dumps(faults_of(tmp_path / "one"))


@pytest.mark.parametrize("read_before", [0, 4])
def test_a_worker_that_ends_while_another_looks_at_the_faults_leaves_them_whole(
    results, tmp_path, monkeypatch, read_before
):
    one = score(results, tmp_path / "one")
    with pytest.raises(UnfinishedError):
        score(results, tmp_path / "run", Scheduled(0, 2))
    read = detectors.read_form
    left = [read_before]

    def read_late(path, form):
        left[0] -= 1
        if left[0] < 0:
            monkeypatch.setattr(detectors, "read_form", read)
            score(results, tmp_path / "run", Scheduled(0, 2))
        return read(path, form)

    monkeypatch.setattr(detectors, "read_form", read_late)
    score(results, tmp_path / "run", Scheduled(1, 2))
    assert everything(tmp_path / "run") == everything(one.path)
    assert faults_of(tmp_path / "run") == faults_of(one.path)


def test_a_reading_that_is_damaged_is_told(results, tmp_path):
    with pytest.raises(UnfinishedError):
        score(results, tmp_path / "run", Scheduled(0, 2))
    kept = next((tmp_path / "run" / "cache" / "read").rglob("*.json"))
    kept.write_text("{")
    with pytest.raises(BrokenFileError, match=kept.name):
        score(results, tmp_path / "run", Scheduled(1, 2))


def test_a_score_that_was_cut_goes_on(results, tmp_path, monkeypatch):
    score(results, tmp_path / "one")
    read = detectors._read_results
    left = [4]

    def stop(path):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(detectors, "_read_results", stop)
        with pytest.raises(KeyboardInterrupt):
            score(results, tmp_path / "cut")
    assert len(list((tmp_path / "cut").rglob("*.parquet"))) == 4
    score(results, tmp_path / "cut")
    assert everything(tmp_path / "cut") == everything(tmp_path / "one")
    assert faults_of(tmp_path / "cut") == faults_of(tmp_path / "one")


def test_what_was_kept_for_other_resamples_or_is_damaged_is_measured_anew(
    results, tmp_path, monkeypatch
):
    one = score(results, tmp_path / "one")
    with pytest.raises(UnfinishedError):
        score(results, tmp_path / "run", Scheduled(0, 2))
    [first, second, _] = sorted((tmp_path / "run" / "cache" / "measured").rglob("*.npz"))
    first.write_bytes(first.read_bytes()[:50])
    set_replicates(monkeypatch, 10)
    with pytest.raises(UnfinishedError):
        score(results, tmp_path / "other", Scheduled(0, 2))
    monkeypatch.undo()
    fewer = tmp_path / "other" / second.relative_to(tmp_path / "run")
    second.write_bytes(fewer.read_bytes())
    set_replicates(monkeypatch, 20)
    score(results, tmp_path / "run", Scheduled(1, 2))
    assert everything(tmp_path / "run") == everything(one.path)


def test_results_of_other_images_are_refused_by_the_last_worker(results, tmp_path):
    for path in (tmp_path / "results" / "theirs").rglob("*.json"):
        found = json.loads(path.read_text())
        path.write_text(json.dumps([{**one, "image_id": 900_000} for one in found]))
    with pytest.raises(UnfinishedError):
        score(results, tmp_path / "run", Scheduled(0, 2))
    with pytest.raises(InputError, match=r"None of \d+ records is of one"):
        score(results, tmp_path / "run", Scheduled(1, 2))
    # Alone nothing is left, so that the mended files can be scored there.
    with pytest.raises(InputError, match=r"None of \d+ records is of one"):
        score(results, tmp_path / "alone")
    assert not (tmp_path / "alone").exists()


def test_a_worker_that_meets_a_broken_file_leaves_the_parts_of_others(results, tmp_path):
    (tmp_path / "results" / "theirs" / "clean.json").write_text("[")
    with pytest.raises(BrokenFileError, match=r"clean\.json"):
        score(results, tmp_path / "run", Scheduled(1, 2))
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_machine_that_does_not_see_the_results_says_so(results, tmp_path, monkeypatch):
    made = cell_parts.make_part

    def elsewhere(scoring, part):
        away = dict.fromkeys(scoring.sources, tmp_path / "elsewhere")
        return made(dataclasses.replace(scoring, sources=away), part)

    monkeypatch.setattr(cell_parts, "make_part", elsewhere)
    with pytest.raises(
        RunError, match=r"of the cluster, cannot access .*elsewhere: there is no such"
    ):
        score(results, tmp_path / "run", Sent())


def test_a_machine_that_works_in_another_folder_finds_the_results(results, tmp_path, monkeypatch):
    made = cell_parts.make_part

    def elsewhere(scoring, part):
        with monkeypatch.context() as patch:
            patch.chdir("/")
            return made(scoring, part)

    monkeypatch.setattr(cell_parts, "make_part", elsewhere)
    monkeypatch.chdir(tmp_path)
    data, models = results
    relative = {name: path.relative_to(tmp_path) for name, path in models.items()}
    one = score(results, tmp_path / "one")
    score((data, relative), tmp_path / "run", Sent())
    assert everything(tmp_path / "run") == everything(one.path)


def test_the_command_of_a_worker_succeeds_with_its_share(tmp_path, capsys):
    scored_results.make("coco", None, tmp_path / "results")
    words = [
        "score",
        "-d",
        str(tmp_path / "results" / "data"),
        "-o",
        str(tmp_path / "run"),
        "-w",
        "0",
    ]
    for name in scored_results.MODELS:
        words += ["-p", f"{name}={tmp_path / 'results' / name}"]
    assert cli.run([*words, "--worker", "1", "--of", "2"]) == 0
    assert "This worker's share is done. Score: 3 of 6 parts" in capsys.readouterr().out
    assert cli.run([*words, "--worker", "0", "--of", "2"]) == 0
    assert (tmp_path / "run" / "scores.json").is_file()
