"""A run that several workers fill: the same bytes as one alone, whoever comes last, and who may not."""

import inspect
import re
from pathlib import Path

import pytest

from shiftproof import Segmenter, bench
from shiftproof.data import open_data, open_segmentation_data
from shiftproof.errors import InputError, RunMismatchError, UnfinishedError
from shiftproof.io import folder_locks
from shiftproof.shards import Ray, Scheduled
from support import blobs, tiny
from support.label_map_trees import NAMES, nearest_color, write_folders
from support.learner import Learner
from support.run_files import everything
from support.sent import Sent

pytestmark = pytest.mark.usefixtures("few_resamples")

GRID = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5], "workers": 0}


def start(photos, out, backend=None, **options):
    model = tiny.make_model()
    data = open_data(photos, classes=model.classes)
    return bench.run(model, data, out=out, backend=backend, **{**GRID, **options})


@pytest.mark.parametrize("protocol", ["online", "online:reset=corruption", "offline:epochs=1"])
def test_workers_in_any_order_write_what_one_command_writes(photos, tmp_path, protocol):
    options = {"adapters": {"learner": Learner}, "protocol": protocol}
    start(photos, tmp_path / "one", **options)
    for worker in (2, 0):
        with pytest.raises(UnfinishedError, match=r"Benchmark: .* \(of workers? .*--of 3\)"):
            start(photos, tmp_path / "shared", Scheduled(worker, 3), **options)
    run = start(photos, tmp_path / "shared", Scheduled(1, 3), **options)
    assert run.scores is not None
    assert everything(tmp_path / "shared") == everything(tmp_path / "one")


def test_a_worker_makes_its_share_and_no_more(photos, tmp_path):
    with pytest.raises(UnfinishedError, match=r"3 of 5 parts .*missing: 1, 3 \(of worker 1"):
        start(photos, tmp_path / "run", Scheduled(0, 2))
    made = {path.stem for path in (tmp_path / "run/records/source").iterdir()}
    assert made == {"clean", "gaussian_noise-5", "contrast-5"}


def test_one_command_goes_on_where_workers_stopped(photos, tmp_path):
    start(photos, tmp_path / "one")
    with pytest.raises(UnfinishedError):
        start(photos, tmp_path / "shared", Scheduled(0, 2))
    start(photos, tmp_path / "shared")
    assert everything(tmp_path / "shared") == everything(tmp_path / "one")


def test_a_worker_of_another_run_is_refused(photos, tmp_path):
    with pytest.raises(UnfinishedError):
        start(photos, tmp_path / "run", Scheduled(0, 2))
    with pytest.raises(RunMismatchError, match="seed was 0, now 1"):
        start(photos, tmp_path / "run", Scheduled(1, 2), seed=1)


def test_workers_share_a_folder_that_a_single_command_may_not_enter(photos, tmp_path):
    with pytest.raises(UnfinishedError):
        start(photos, tmp_path / "run", Scheduled(0, 3))
    with folder_locks._lock(tmp_path / "run", shared=True):
        with pytest.raises(UnfinishedError):
            start(photos, tmp_path / "run", Scheduled(1, 3))
        with pytest.raises(InputError, match="Another command is running"):
            start(photos, tmp_path / "run")


def test_a_planned_number_of_images_is_not_for_workers(photos, tmp_path):
    with pytest.raises(InputError, match="one command has to run"):
        start(photos, tmp_path / "run", Scheduled(0, 2), precision=1.0)
    assert not (tmp_path / "run").exists()


def test_detectors_and_their_classes_are_sent(blocks, tmp_path):
    for name, backend in (("here", None), ("there", Sent())):
        bench.run(
            blobs.make_detector(), blocks, task=bench.Detection(), backend=backend,
            out=tmp_path / name, workers=0, corruptions=["contrast"], severities=[3],
        )  # fmt: skip
    assert everything(tmp_path / "there") == everything(tmp_path / "here")


def test_segmenters_and_their_classes_are_sent(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data"), classes=list(NAMES))
    for name, backend in (("here", None), ("there", Sent())):
        bench.run(
            Segmenter(nearest_color, NAMES), data, task=bench.Segmentation(), backend=backend,
            out=tmp_path / name, workers=0, corruptions=["contrast"], severities=[3],
        )  # fmt: skip
    assert everything(tmp_path / "there") == everything(tmp_path / "here")


def test_the_page_says_in_python_what_run_takes(monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "many-machines.md"
    calls = []
    takes = inspect.signature(bench.run)
    monkeypatch.setattr(bench, "run", lambda *a, **k: calls.append(takes.bind(*a, **k).arguments))
    [code] = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(code, "many-machines.md", "exec"), {})
    assert [type(call["backend"]) for call in calls] == [Scheduled, Ray]
