import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from shiftproof import bench, corrupt, load_run
from shiftproof.classes import Classes, imagenet
from shiftproof.data import ImageArrays, open_data
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    LabelError,
    ModelError,
    RunError,
    RunMismatchError,
    UnknownNameError,
)
from shiftproof.io.images import read_image
from shiftproof.models import Classifier, Preprocess
from support import slow_run, tiny

GRID = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5]}


def everything(folder: Path) -> dict[str, bytes]:
    kept = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("run.json",)]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in kept}


def open_photos(photos, model, **options):
    return open_data(photos, classes=model.classes, **options)


@pytest.fixture(scope="module")
def whole_by_size(tmp_path_factory):
    """A function that gives the finished run over GRID for a batch size: to be read, not changed."""
    folder = tmp_path_factory.mktemp("whole")
    model = tiny.make_model()
    data = open_photos(tiny.write_photos(folder / "photos"), model)
    runs = {}

    def get(size):
        if size not in runs:
            out = folder / f"run-{size}"
            runs[size] = bench.run(model, data, out=out, workers=0, batch_size=size, **GRID)
        return runs[size]

    return get


@pytest.fixture
def whole(whole_by_size):
    return whole_by_size(64)


@pytest.fixture
def copy(whole, tmp_path):
    """The folder of that run again, which a test may change: ``tmp_path / "run"``."""
    return shutil.copytree(whole.path, tmp_path / "run")


# ---------------------------------------------------------------- the records


def test_records_hold_what_the_model_says_to_the_corrupted_image(model, photos, whole):
    records = whole.cell("source", "contrast", 5)
    assert records.ids == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    for row, name in enumerate(records.ids):
        image = model.preprocess.geometry(read_image(photos / name))
        image = corrupt(image, "contrast", severity=5, seed=0, key=name)
        scaled = (image.astype(np.float64) / 255 - 0.5) / 0.1
        logits = scaled.mean(axis=(0, 1))
        probability = np.exp(logits) / np.exp(logits).sum()
        target = ("red", "green", "blue").index(name.split("/")[0])
        assert records.target[row] == target
        assert records.prediction[row] == logits.argmax()
        assert records.confidence[row] == pytest.approx(probability.max(), rel=1e-4)
        assert records.loss[row] == pytest.approx(-np.log(probability[target]), rel=1e-3)
        assert list(records.top[row][:3]) == list(np.argsort(-logits))
        assert list(records.top[row][3:]) == [-1, -1]
    assert sorted(records.position) == list(range(len(records)))
    assert list(records.position) != list(range(len(records)))


def test_the_figures_are_the_means_of_the_records(whole):
    [source] = whole.scores.models
    by_cell = {(c.corruption, c.severity): c for c in source.cells}
    errors = []
    for name in GRID["corruptions"]:
        for severity in GRID["severities"]:
            records = whole.cell("source", name, severity)
            wrong = np.mean(records.prediction != records.target)
            errors.append(wrong)
            assert by_cell[name, severity].figures["error"].value == pytest.approx(wrong)
            assert by_cell[name, severity].figures["loss"].value == pytest.approx(
                float(np.mean(records.loss.astype(np.float64)))
            )
    clean = whole.cell("source", "clean", 0)
    clean_error = np.mean(clean.prediction != clean.target)
    summary = source.summary
    assert summary["mean"].value == pytest.approx(np.mean(errors))
    assert summary["clean"].value == pytest.approx(clean_error)
    assert summary["rpc"].value == pytest.approx((1 - np.mean(errors)) / (1 - clean_error))
    assert summary["mean"].low <= summary["mean"].value
    assert summary["mean"].value <= summary["mean"].high
    assert 0 < np.mean(errors) < 1


def test_the_records_are_one_table(whole):
    run = load_run(whole.path)
    table = run.records()
    assert len(table) == 5 * 12
    assert table.column_names[:4] == ["model", "corruption", "severity", "id"]
    noisy = run.records(corruptions=["gaussian_noise"], severities=[5]).to_pydict()
    cell = run.cell("source", "gaussian_noise", 5)
    assert noisy["id"] == cell.ids
    assert noisy["prediction"] == cell.prediction.tolist()
    assert run.records(corruptions=["clean"]).column("severity").to_pylist() == [0] * 12
    with pytest.raises(UnknownNameError, match="corruption of the run 'fog'"):
        run.records(corruptions=["fog"])
    assert table.schema.field("error").type == pa.string()
    with pytest.raises(UnknownNameError, match="sorce"):
        run.records(models=["sorce"])


def test_a_run_is_loaded_when_it_is_finished(whole, copy, tmp_path):
    scores = copy / whole.folder.scores_file.name
    scores.rename(tmp_path / "scores.json")
    with pytest.raises(InputError, match="not finished"):
        load_run(copy)
    (tmp_path / "scores.json").rename(scores)
    assert load_run(copy).scores == whole.scores


def test_several_classifiers_are_compared_on_the_same_images(model, photos, tmp_path):
    data = open_photos(photos, model)

    def turned(batch):
        return np.roll(model.module(batch), 1, axis=1)

    other = Classifier(turned, model.preprocess, model.classes, name="turned")
    run = bench.run({"mine": model, "turned": other}, data, out=tmp_path / "run", workers=0, **GRID)
    alone = bench.run(other, data, out=tmp_path / "alone", workers=0, **GRID)
    assert [one.name for one in run.scores.models] == ["mine", "turned"]
    assert run.scores.models[1].cells == alone.scores.models[0].cells
    [difference] = run.scores.differences
    mine, second = (one.summary["mean"].value for one in run.scores.models)
    assert (difference.name, difference.against) == ("turned", "mine")
    assert difference.summary["mean"].value == pytest.approx(second - mine)
    assert set(run.folder.info()["settings"]["models"]) == {"mine", "turned"}
    assert json.loads((run.path / "classes.json").read_text())["names"] == ["red", "green", "blue"]
    apart = Classifier(model.module, model.preprocess, ["red", "green", "grey"])
    with pytest.raises(LabelError, match="run them one by one"):
        bench.run({"mine": model, "apart": apart}, data, out=tmp_path / "no", workers=0, **GRID)
    moved = Classifier(model.module, model.preprocess, ["green", "red", "blue"])
    with pytest.raises(LabelError, match=r"moved lists the classes .* in another order; run them"):
        bench.run({"mine": model, "moved": moved}, data, out=tmp_path / "no", workers=0, **GRID)
    assert not (tmp_path / "no").exists()


def test_workers_and_batch_sizes_do_not_change_a_record(model, photos, whole_by_size, tmp_path):
    data = open_photos(photos, model)
    shared = bench.run(model, data, out=tmp_path / "run", workers=2, batch_size=5, **GRID)
    runs = [whole_by_size(64), whole_by_size(5), shared]
    first, *others = [everything(run.path / "records") for run in runs]
    assert len(first) == 5
    for other in others:
        assert other == first


def test_the_decoded_images_are_taken_away_at_the_end(whole):
    assert not (whole.path / "cache").exists()
    assert not list(whole.path.rglob("*.part"))


# ---------------------------------------------------------------- going on


class Interrupted(Exception):
    pass


def interrupting(model, after):
    """The same model, which gives up after a number of batches."""
    calls = []

    class Stops:
        name, classes, preprocess, settings = (
            model.name, model.classes, model.preprocess, model.settings,
        )  # fmt: skip

        def predict(self, images):
            calls.append(len(images))
            if len(calls) > after:
                raise Interrupted
            return model.predict(images)

        def __call__(self, batch):
            raise NotImplementedError

    return Stops()


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    model, photos, whole_by_size, tmp_path, after
):
    data = open_photos(photos, model)
    options = {"workers": 0, "batch_size": 5, **GRID}
    with pytest.raises(Interrupted):
        bench.run(interrupting(model, after), data, out=tmp_path / "cut", **options)
    assert not (tmp_path / "cut" / "scores.json").exists()
    done = len(list((tmp_path / "cut").rglob("*.parquet")))
    assert done == after // 3
    again = bench.run(model, data, out=tmp_path / "cut", **options)
    assert everything(again.path) == everything(whole_by_size(5).path)


def test_finished_cells_are_not_done_again(model, photos, copy):
    data = open_photos(photos, model)
    (copy / "records" / "source" / "contrast-5.parquet").unlink()
    counting = interrupting(model, after=1)
    bench.run(counting, data, out=copy, workers=0, **GRID)


def test_kill_nine_in_the_middle(photos, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    slow_run.run(photos, whole)
    killed = subprocess.Popen([sys.executable, slow_run.__file__, photos, cut])
    records = cut / "records" / "source"
    deadline = time.monotonic() + 240
    while len(list(records.glob("*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (cut / "scores.json").exists()
    slow_run.run(photos, cut)
    assert everything(cut) == everything(whole)


def test_a_full_disk_loses_nothing_and_the_run_goes_on(model, photos, whole, tmp_path, monkeypatch):
    data = open_photos(photos, model)
    real_replace = Path.replace
    allowed = [3]

    def full(source, target):
        if str(target).endswith(".parquet"):
            allowed[0] -= 1
            if allowed[0] < 0:
                raise OSError(28, "No space left on device")
        return real_replace(source, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match="disk is full"):
        bench.run(model, data, out=tmp_path / "run", workers=0, **GRID)
    monkeypatch.undo()
    assert len(list((tmp_path / "run").rglob("*.parquet"))) == 3
    assert not list((tmp_path / "run").rglob("*.part"))
    again = bench.run(model, data, out=tmp_path / "run", workers=0, **GRID)
    assert everything(again.path) == everything(whole.path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"batch_size": 3}, "batch size was 64, now 3"),
        ({"encode": "jpeg"}, "images: encode was none, now jpeg quality 85"),
    ],
)
def test_a_folder_of_a_run_with_other_settings_is_refused(model, photos, copy, change, named):
    data = open_photos(photos, model)
    before = everything(copy)
    with pytest.raises(RunMismatchError, match=named):
        bench.run(model, data, out=copy, workers=0, **{**GRID, **change})
    assert everything(copy) == before


def test_a_folder_of_a_run_on_other_images_is_refused(model, photos, copy):
    image = np.asarray(Image.open(photos / "red" / "0.png")).copy()
    image[0, 0] ^= 1
    Image.fromarray(image).save(photos / "red" / "0.png")
    with pytest.raises(RunMismatchError, match="data: other content"):
        bench.run(model, open_photos(photos, model), out=copy, workers=0, **GRID)


def test_a_folder_with_other_things_is_refused(model, photos, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        bench.run(model, open_photos(photos, model), out=tmp_path / "run", workers=0, **GRID)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


# ---------------------------------------------------------------- broken files, labels, bad input


def test_broken_files_are_listed_and_never_shrink_the_set_silently(model, photos, tmp_path):
    (photos / "red" / "broken.png").write_bytes((photos / "red" / "0.png").read_bytes()[:300])
    (photos / "blue" / "text.jpg").write_text("not an image")
    Image.new("RGB", (1, 900_000)).save(photos / "green" / "strip.png")
    run = bench.run(model, open_photos(photos, model), out=tmp_path / "run", workers=1, **GRID)
    images = run.scores.images
    assert (images.total, images.used) == (15, 12)
    assert [b.id for b in images.broken] == [
        "blue/text.jpg",
        "green/strip.png",
        "red/broken.png",
    ]
    assert all(b.cells == 5 for b in images.broken)
    assert "not an image" in images.broken[0].reason
    records = run.cell("source", "contrast", 1)
    assert len(records) == 15
    assert int(records.readable.sum()) == 12
    [source] = run.scores.models
    assert {cell.images for cell in source.cells} == {12}


def test_without_labels_agreement_with_the_clean_answer_is_measured(model, photos, tmp_path):
    data = open_photos(photos, model, labeled=False)
    run = bench.run(model, data, out=tmp_path / "run", workers=0, **GRID)
    scores = run.scores
    assert scores.measure.name == "disagreement"
    [source] = scores.models
    clean = run.cell("source", "clean", 0)
    noisy = run.cell("source", "gaussian_noise", 5)
    cell = next(c for c in source.cells if (c.corruption, c.severity) == ("gaussian_noise", 5))
    assert cell.figures["disagreement"].value == pytest.approx(
        np.mean(clean.prediction != noisy.prediction)
    )
    assert set(cell.figures) == {"disagreement"}
    assert source.of_clean("disagreement").value == 0
    assert set(source.summary) == {"mean"}
    assert scores.grid.reason == "the images have no labels"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"corruptions": ["fgo"]}, UnknownNameError, "Did you mean 'fog'"),
        ({"corruptions": []}, InputError, "at least one corruption"),
        ({"corruptions": "fog"}, InputError, r"\['fog'\]"),
        ({"corruptions": ["fog", "fog"]}, InputError, "given twice"),
        ({"severities": [0]}, InputError, "from 1 to 5, got 0"),
        ({"severities": [6]}, InputError, "from 1 to 5, got 6"),
        ({"severities": []}, InputError, "from 1 to 5"),
        ({"batch_size": 0}, InputError, "1 or more"),
        ({"encode": "webp"}, UnknownNameError, "Unknown encode 'webp'"),
        ({"adapters": ["batchnrm"]}, UnknownNameError, "Did you mean 'batchnorm'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    model, photos, tmp_path, options, error, message
):
    with pytest.raises(error, match=message):
        bench.run(
            model,
            open_photos(photos, model),
            out=tmp_path / "run",
            workers=0,
            **{**GRID, **options},
        )
    assert not (tmp_path / "run").exists()


def test_a_label_outside_the_classes_is_refused(tmp_path):
    four = Classes(("a", "b", "c", "d"))
    data = ImageArrays([np.zeros((24, 24, 3), np.uint8)], labels=[3], classes=four)
    model = Classifier(
        lambda x: x.mean(axis=(2, 3)), Preprocess((24, 24), 24), ["red", "green", "blue"]
    )
    with pytest.raises(InputError, match="label 3, but the model has 3 classes: expected 0 to 2"):
        bench.run(model, data, out=tmp_path / "run", workers=0, **GRID)


def test_a_damaged_record_is_named(model, photos, copy):
    data = open_photos(photos, model)
    path = copy / "records" / "source" / "contrast-1.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BrokenFileError, match=r"contrast-1\.parquet: not a readable record table"):
        bench.run(model, data, out=copy, workers=0, **GRID)


# ---------------------------------------------------------------- own corruptions, -C trees


def test_a_function_is_as_good_as_a_name(model, photos, tmp_path):
    def invert(image, severity, rng):
        return 255 - image

    run = bench.run(
        model, open_photos(photos, model), corruptions={"invert": invert, "haze": "fog"},
        severities=[2], out=tmp_path / "run", workers=1,
    )  # fmt: skip
    [source] = run.scores.models
    assert [row.corruption for row in source.corruptions] == ["invert", "haze"]
    assert [row.group for row in source.corruptions] == ["other", "other"]


def test_a_tree_on_disk_gives_the_records_of_the_same_images_corrupted_on_the_fly(
    model, photos, whole, tmp_path
):
    data = open_photos(photos, model)
    tree = tmp_path / "tree"
    for sample in data.samples:
        image = model.preprocess.geometry(data.read(sample))
        for folder, pixels in [("clean", image)] + [
            (f"{name}/{severity}", corrupt(image, name, severity=severity, key=sample.id))
            for name in GRID["corruptions"]
            for severity in GRID["severities"]
        ]:
            path = tree / folder / sample.id
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    disk_data = open_data(tree, classes=model.classes)
    disk = bench.run(model, disk_data, out=tmp_path / "disk", workers=0, **GRID)
    assert everything(disk.path / "records") == everything(whole.path / "records")
    assert disk.scores == whole.scores


def test_a_tree_that_lacks_a_cell_is_refused(model, photos, tmp_path):
    tree = tmp_path / "tree"
    (tree / "fog").mkdir(parents=True)
    (photos / "red").rename(tmp_path / "red")
    for severity in "12":
        target = tree / "fog" / severity / "red"
        target.mkdir(parents=True)
        for path in (tmp_path / "red").iterdir():
            (target / path.name).write_bytes(path.read_bytes())
    data = open_data(tree, classes=model.classes)
    with pytest.raises(
        InputError, match=r"has no cell fog-3\. .*--corruptions fog --severities 1,2$"
    ):
        bench.run(model, data, corruptions=["fog"], severities=[1, 2, 3], out=tmp_path / "run")


# ---------------------------------------------------------------- what is claimed


def test_mce_is_claimed_on_the_whole_grid_of_imagenet_only(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)

    def network(batch):
        seen = np.tile(batch.reshape(len(batch), -1), (1, 2))[:, :1000]
        return np.ascontiguousarray(seen, dtype=np.float32)

    model = Classifier(network, Preprocess((16, 16), 16), imagenet(), name="random")
    labels = model.predict(images).argmax(axis=1)
    data = ImageArrays(images, labels=labels, classes=imagenet())
    run = bench.run(model, data, out=tmp_path / "all", workers=0)
    scores = run.scores
    assert scores.grid.reason is None
    summary = scores.models[0].summary
    rows = {row.corruption: row.figures for row in scores.models[0].corruptions}
    # CE by hand, AlexNet's average error on fog being 81.9324 % (METHODS of the papers).
    assert rows["fog"]["ce"].value == pytest.approx(rows["fog"]["error"].value / 0.819324)
    assert summary["mce"].value == pytest.approx(np.mean([r["ce"].value for r in rows.values()]))
    assert summary["clean"].value == 0

    partial = bench.run(model, data, out=tmp_path / "some", workers=0, severities=[1, 2, 3])
    assert partial.scores.models[0].summary["mce"] is None
    assert partial.scores.grid.reason == "only the severities 1, 2, 3 of 1 to 5 were run"
    assert partial.scores.models[0].summary["mean"] is not None
    written = json.loads((partial.path / "scores.json").read_text())
    json.dumps(written, allow_nan=False)


def test_models_of_one_geometry_stand_in_one_run(photos, tmp_path):
    def make(mean, size=24):
        preprocess = Preprocess((size, size), size, mean=(mean,) * 3, std=(0.1,) * 3)
        return Classifier(tiny.mean_colour, preprocess, Classes(tiny.NAMES), name="mean colour")

    grid = {"corruptions": ["contrast"], "severities": [1], "workers": 0}
    both = {"one": make(0.5), "two": make(0.4)}
    run = bench.run(both, photos, out=tmp_path / "run", **grid)
    assert [model.name for model in run.scores.models] == ["one", "two"]
    with pytest.raises(ModelError, match="crops images in another way"):
        bench.run({**both, "two": make(0.5, 16)}, photos, out=tmp_path / "other", **grid)
