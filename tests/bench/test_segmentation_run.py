"""Segmenters on the corruption grid: figures, intervals, records, going on, pictures."""

import json
import shutil

import numpy as np
import pytest

from shiftproof import Segmenter, bench, corrupt
from shiftproof.data import export_corrupted, open_segmentation_data
from shiftproof.errors import BrokenFileError, InputError, LabelError, ModelError
from shiftproof.metrics import class_ious, intervals, mean_iou, pixel_confusion
from shiftproof.metrics.segmentation import compute_marginals
from shiftproof.runs import load_run
from shiftproof.runs.records.segmentation import read_segmentation
from shiftproof.types import CLEAN, Cell
from support.label_map_trees import NAMES, nearest_color, save, scene, write_folders

COUNT = 6
GRID = {"corruptions": ["fog", "brightness"], "severities": [1, 4]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("data"), COUNT)


def lazy(images):
    """Says sky above and grass below, whatever there is."""
    answers = []
    for image in images:
        labels = np.zeros(image.shape[:2], np.int64)
        labels[len(labels) // 2 :] = 1
        answers.append(labels)
    return answers


def opened(data):
    return open_segmentation_data(data, classes=list(NAMES))


def start(data, out, models=None, **options):
    models = models or {"by-color": Segmenter(nearest_color, NAMES), "lazy": Segmenter(lazy, NAMES)}
    settings = {"workers": 0, "show_progress": False, **GRID, **options}
    return bench.run(models, opened(data), out=out, **settings)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return start(data, tmp_path_factory.mktemp("runs") / "run")


def by_hand(cell, answer):
    """The confusion of each image in a cell, as nothing but numpy gives it."""
    tables = []
    for number in range(COUNT):
        image, labels = scene(number)
        if not cell.is_clean:
            image = corrupt(
                image, cell.corruption, severity=cell.severity, key=f"images/{number}.png"
            )
        [said] = answer([image])
        said = said.argmax(0) if said.ndim == 3 else said
        tables.append(
            [
                [((labels == true) & (said == other)).sum() for other in range(3)]
                for true in range(3)
            ]
        )
    return np.array(tables)


def naive_miou(confusion):
    shares = []
    for index in range(3):
        hit = confusion[index, index]
        union = confusion[index].sum() + confusion[:, index].sum() - hit
        shares += [hit / union] if union else []
    return np.mean(shares)


@pytest.mark.parametrize("cell", [CLEAN, Cell("fog", 4), Cell("brightness", 1)])
def test_figures_are_those_by_hand(run, cell):
    for model, answer in zip(run.scores.models, (nearest_color, lazy), strict=True):
        tables = by_hand(cell, answer)
        found = (
            model.clean if cell.is_clean else model.cells[[c.cell for c in model.cells].index(cell)]
        )
        total = tables.sum(axis=0)
        assert found.figures["mIoU"].value == pytest.approx(naive_miou(total), abs=1e-9)
        assert found.figures["accuracy"].value == pytest.approx(np.trace(total) / total.sum())
        recalls = np.diag(total) / total.sum(axis=1)
        assert found.numbers["mean class accuracy"] == pytest.approx(recalls.mean())


def test_intervals_are_over_images_and_paired(run):
    """The resamples of the images are drawn here once more, and everything is computed anew."""
    [weights] = intervals.resample_weights(COUNT, intervals.REPLICATES, seed=0)
    drawn = {}
    for name, answer in (("by-color", nearest_color), ("lazy", lazy)):
        tables = by_hand(Cell("fog", 4), answer)
        one = np.array([naive_miou(np.tensordot(row, tables, 1)) for row in weights])
        drawn[name] = np.clip(one - one.mean() + naive_miou(tables.sum(axis=0)), 0, 1)
    cell = run.scores.models[0].cells[1]
    assert (cell.corruption, cell.severity) == ("fog", 4)
    low, high = np.quantile(drawn["by-color"], [0.025, 0.975])
    assert cell.figures["mIoU"].low == pytest.approx(low, abs=1e-6)
    assert cell.figures["mIoU"].high == pytest.approx(high, abs=1e-6)
    low, high = np.quantile(drawn["lazy"] - drawn["by-color"], [0.025, 0.975])
    moved = run.scores.differences[0].cells[1].figures["mIoU"]
    assert (moved.low, moved.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_means_and_shares_are_those_of_the_cells(run):
    for model in run.scores.models:
        values = [cell.figures["mIoU"].value for cell in model.cells]
        assert model.summary["mean"].value == pytest.approx(np.mean(values))
        kept = np.mean(values) / model.clean.figures["mIoU"].value
        assert model.summary["rpc"].value == pytest.approx(kept)
    assert run.scores.grid.reason.startswith("13 of the 15 corruptions are not there")


def test_records_hold_the_pairs_of_classes_that_occur(run):
    records = run.cell("lazy", "fog", 4)
    tables = by_hand(Cell("fog", 4), lazy)
    for one, table in zip(records.counts, tables, strict=True):
        assert one.pixels.min() > 0
        assert {
            (t, p): n for t, p, n in zip(one.truth, one.prediction, one.pixels, strict=True)
        } == {(t, p): n for (t, p), n in np.ndenumerate(table) if n}
    assert run.records().num_rows == 2 * 5 * COUNT


def test_what_becomes_of_each_class_is_kept(run):
    detail = run.scores.models[0].detail
    clean, corrupted = by_hand(CLEAN, nearest_color).sum(0), by_hand(Cell("fog", 4), nearest_color)
    row = next(one for one in detail["classes"] if one["name"] == "grass")
    assert row["pixels"] == clean[1].sum()
    assert row["recall"]["clean"] == pytest.approx(clean[1, 1] / clean[1].sum())
    cells = [Cell(name, severity) for name in GRID["corruptions"] for severity in (1, 4)]
    shares = np.mean([(t := by_hand(c, nearest_color).sum(0))[1] / t[1].sum() for c in cells], 0)
    first = row["takers"][0]
    assert first["name"] == NAMES[[0, 2][int(shares[2] > shares[0])]]
    assert first["mean"] == pytest.approx(shares[[0, 2]].max())
    table = detail["confusion"]
    np.testing.assert_allclose(np.array(table["mean"])[1, :3], shares, atol=1e-5)
    losses = [one["clean"] - one["mean"] for one in detail["classes"]]
    assert losses == sorted(losses, reverse=True)
    assert corrupted.sum() == clean.sum()


def test_an_interrupted_run_ends_with_the_same_files(run, data, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run.path, out)
    for name in ("scores.json", "gallery.json", "records/lazy/fog-4.parquet"):
        (out / name).unlink()
    start(data, out)
    for name in ("scores.json", "gallery.json", "records/lazy/fog-4.parquet"):
        assert (out / name).read_bytes() == (run.path / name).read_bytes()


def test_batches_and_sums_of_another_size_give_the_same_figures(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.bench.tasks.segmentation.task.SUMS_BYTES", 1)
    again = start(data, tmp_path / "run", batch_size=1)
    assert again.scores.models == run.scores.models


def test_an_image_that_cannot_be_read_counts_nowhere(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data/images/2.png"
    path.write_bytes(path.read_bytes()[:90])
    run = start(tmp_path / "data", tmp_path / "run", {"lazy": Segmenter(lazy, NAMES)})
    assert (run.scores.images.used, run.scores.images.total) == (COUNT - 1, COUNT)
    tables = np.delete(by_hand(CLEAN, lazy), 2, axis=0)
    value = run.scores.models[0].clean.figures["mIoU"].value
    assert value == pytest.approx(naive_miou(tables.sum(axis=0)))


def test_corrupted_copies_are_read_with_the_label_maps_of_the_data(run, data, tmp_path):
    export_corrupted(
        data,
        tmp_path / "copies",
        corruptions=["fog"],
        severities=[4],
        workers=0,
        show_progress=False,
    )
    task = bench.Segmentation(corrupted=tmp_path / "copies")
    read = start(data, tmp_path / "run", task=task, corruptions=["fog"], severities=[4])
    assert read.scores.models[0].cells[0].figures == run.scores.models[0].cells[1].figures
    path = tmp_path / "copies/fog/4/images/0.png"
    save(path, scene(0)[0][:-2])
    broken = start(data, tmp_path / "other", task=task, corruptions=["fog"], severities=[4])
    [entry] = broken.scores.images.broken
    assert "has 36 x 22 pixels, and its label map was made in 36 x 24" in entry.reason


def test_conditions_have_figures_of_their_own(tmp_path):
    for number, condition in enumerate(("fog", "fog", "night")):
        inner = f"{condition}/val/a/{number}"
        image, labels = scene(number)
        save(tmp_path / f"data/rgb_anon/{inner}_rgb_anon.png", image)
        save(tmp_path / f"data/gt/{inner}_gt_labelTrainIds.png", labels)
    names = ["road", "sidewalk", "building"]
    run = bench.run(
        Segmenter(nearest_color, names), open_segmentation_data(tmp_path / "data"),
        out=tmp_path / "run", corruptions=["brightness"], severities=[1], workers=0,
        show_progress=False,
    )  # fmt: skip
    [model] = run.scores.models
    detail = model.detail
    assert list(detail["conditions"]) == ["fog", "night"]
    total = sum(
        pixel_confusion(
            np.where((labels := scene(n)[1]) == 255, -1, labels.astype(int)),
            nearest_color([scene(n)[0]])[0].argmax(0),
            3,
        )
        for n in (0, 1)
    )
    expected = mean_iou(class_ious(*compute_marginals(total)))
    assert detail["conditions"]["fog"]["clean"] == pytest.approx(float(expected))
    missing = json.loads((run.path / "run.json").read_text())["settings"]["classes"]
    assert len(missing["source"]["missing"]) == 16


def test_pictures_show_what_loses_most(run):
    gallery = json.loads((run.path / "gallery.json").read_text())
    losses = [sheet["lost"] for sheet in gallery["sheets"]]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0
    for sheet in gallery["sheets"]:
        assert set(sheet["files"]) == {
            "clean", "corrupted", "truth", "by-color clean", "by-color corrupted", "lazy clean",
            "lazy corrupted",
        }  # fmt: skip
        assert all((run.path / file).is_file() for file in sheet["files"].values())


def test_examples_show_every_answer_under_every_corruption(run):
    gallery = json.loads((run.path / "gallery.json").read_text())
    worst = gallery["sheets"][0]["id"]
    assert gallery["examples"][0]["id"] == worst
    assert len({one["id"] for one in gallery["examples"]}) == len(gallery["examples"])
    names = {cell.corruption for cell in run.scores.models[0].cells}
    for one in gallery["examples"]:
        assert set(one["answers"]) == {"by-color", "lazy"}
        for found in one["answers"].values():
            assert {cell.rpartition("-")[0] or cell for cell in found} == {"clean", *names}
            assert set(found) == set(one["photos"])
            assert all((run.path / answer["file"]).is_file() for answer in found.values())


# ---------------------------------------------------------------- what is refused


def refused(data, tmp_path, message, error=InputError, **options):
    with pytest.raises(error, match=message):
        start(data, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_measured_is_said_before_anything_is_written(data, tmp_path):
    two = {"two": Segmenter(lazy, ["x", "y"])}
    refused(data, tmp_path, "no class in common", LabelError, models=two)
    images = open_segmentation_data(data, classes=list(NAMES))
    with pytest.raises(InputError, match="has no label maps"):
        bench.run(Segmenter(lazy, NAMES), _photos(data), out=tmp_path / "run")
    assert images.name
    refused(
        data, tmp_path, "A function hides its network", ModelError, adapters=["batchnorm"],
        models={"lazy": Segmenter(lazy, NAMES)},
    )  # fmt: skip
    shutil.copytree(data, tmp_path / "data")
    save(tmp_path / "data/masks/3.png", np.full((24, 36), 7, np.uint8))
    refused(tmp_path / "data", tmp_path, r"masks/3\.png: 864 pixels with the number 7")


def _photos(data):
    from shiftproof.data import open_data

    return open_data(data / "images", classes=None)


def test_damaged_records_are_named(run, data, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run.path, out)
    path = out / "records/lazy/fog-4.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BrokenFileError, match=r"fog-4\.parquet: not a readable record table"):
        read_segmentation(path)
    assert load_run(run.path).kind == "segmentation"


def test_classes_and_conditions_have_intervals_by_hand(tmp_path):
    """The resamples are drawn here once more; each condition's images are drawn among themselves."""
    root = write_folders(tmp_path / "data", COUNT)
    opened_data = open_segmentation_data(root, classes=list(NAMES))
    foggy = [f"images/{number}.png" for number in range(2)]
    data = type(opened_data)(
        "data",
        opened_data.root,
        opened_data.masks,
        opened_data.space,
        conditions={name: "fog" if name in foggy else "sun" for name in opened_data.masks},
    )
    model = Segmenter(nearest_color, NAMES)
    run = bench.run(
        model, data, out=tmp_path / "run", corruptions=["fog"], severities=[1, 4], workers=0
    )
    detail = run.scores.models[0].detail
    clean = by_hand(CLEAN, nearest_color)
    corrupted = [by_hand(Cell("fog", severity), nearest_color) for severity in (1, 4)]

    def ends(figure, rows):
        [weights] = intervals.resample_weights(len(rows), intervals.REPLICATES, seed=0)
        whole = figure(np.ones(len(rows)), rows)
        drawn = np.array([figure(row, rows) for row in weights])
        drawn += whole - np.nanmean(drawn)
        return whole, *np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])

    def lost(figure):
        return lambda weights, rows: (
            figure(np.tensordot(weights, clean[rows], 1))
            - np.mean([figure(np.tensordot(weights, one[rows], 1)) for one in corrupted])
        )

    def iou(index):
        return lambda t: t[index, index] / (t[index].sum() + t[:, index].sum() - t[index, index])

    for one in detail["classes"]:
        found = one["ranges"]["lost"]
        expected = ends(lost(iou(one["index"])), list(range(COUNT)))
        assert [found["value"], found["low"], found["high"]] == pytest.approx(expected, abs=1e-8)
        assert found["low"] < found["value"] < found["high"]
    for name, rows in (("fog", [0, 1]), ("sun", [2, 3, 4, 5])):
        found = detail["conditions"][name]["ranges"]["lost"]
        expected = ends(lost(naive_miou), rows)
        assert [found["value"], found["low"], found["high"]] == pytest.approx(expected, abs=1e-8)
