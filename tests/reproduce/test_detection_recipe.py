"""The recipe of detection: its scenes, its detector, its training, and the whole in small."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.errors import InputError, RunError
from shiftproof.metrics import coco_metrics
from shiftproof.runs import Run
from shiftproof_reproduce import (
    center_points,
    detection,
    detection_paper,
    detector_training,
    fashion,
)
from shiftproof_reproduce.detection import Plan, mix_scenes, read_scenes, stylize_scenes
from shiftproof_reproduce.detector_training import DetectorTraining, Scenes, train_detector
from shiftproof_reproduce.published import read_detectors
from shiftproof_reproduce.scenes import Parts, SceneKind, draw_scene, read_backgrounds, write_scenes
from support.few_resamples import set_replicates
from support.tiny_fashion import write_fashion

KIND = SceneKind(side=64, items=(1, 2), sizes=(0.3, 0.5))
TRAINING = DetectorTraining(epochs=2, batch_size=4, peak_rate=2e-3, widths=(4, 4, 8, 8))
PLAN = Plan(
    kind=KIND,
    training=TRAINING,
    train_scenes=12,
    test_scenes=4,
    good_enough=0.0,
    corruptions=("gaussian_noise", "contrast"),
    severities=(2,),
    batch_size=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_fashion(tmp_path_factory.mktemp("fashion"), train=60, test=30)


@pytest.fixture(scope="module")
def items(folder):
    return fashion.load(folder)


@pytest.fixture(scope="module")
def photographs():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (70 + 5 * k, 90, 3), dtype=np.uint8) for k in range(6)]


@pytest.fixture(scope="module")
def data(items, photographs, tmp_path_factory):
    return write_scenes(
        tmp_path_factory.mktemp("scenes"),
        6,
        Parts(items.train_images, items.train_labels, photographs),
        KIND,
        name="train",
        show_progress=False,
    )


# ---------------------------------------------------------------- scenes


def test_outside_of_the_boxes_there_is_the_photograph_alone(items, photographs):
    parts = Parts(items.train_images, items.train_labels, photographs)
    image, boxes, labels = draw_scene(parts, KIND, key="a")
    invisible = dataclasses.replace(parts, items=np.zeros_like(items.train_images))
    background, _, _ = draw_scene(invisible, KIND, key="a")
    assert image.shape == (64, 64, 3)
    assert 1 <= len(boxes) == len(labels) <= 2
    changed = (image != background).any(axis=2)
    inside = np.zeros((64, 64), dtype=bool)
    for x, y, w, h in boxes:
        inside[y : y + h, x : x + w] = True
        assert max(w, h) in range(round(0.3 * 64), round(0.5 * 64) + 1)
        assert changed[y : y + h, x : x + w].mean() > 0.2
    assert not changed[~inside].any()


def test_a_scene_depends_on_its_key_alone(items, photographs):
    parts = Parts(items.train_images, items.train_labels, photographs)
    one, again, other = (draw_scene(parts, KIND, key=key) for key in "aab")
    assert all(np.array_equal(x, y) for x, y in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_scenes_on_disk_are_those_that_were_drawn(items, photographs, data):
    parts = Parts(items.train_images, items.train_labels, photographs)
    for number, sample in enumerate(data.samples):
        image, boxes, labels = draw_scene(parts, KIND, key=f"train {number}")
        np.testing.assert_array_equal(data.read(sample), image)
        np.testing.assert_array_equal(data.objects[sample.id].positions, boxes)
        np.testing.assert_array_equal(data.objects[sample.id].labels, labels)


def test_scenes_that_are_there_are_not_drawn_again(items, photographs, data, monkeypatch):
    arguments = (6, Parts(items.train_images, items.train_labels, photographs), KIND)
    before = (data.root / "images/00000.png").stat().st_mtime_ns
    write_scenes(data.root, *arguments, name="train", show_progress=False)
    assert (data.root / "images/00000.png").stat().st_mtime_ns == before


def test_backgrounds_come_from_any_folder(tmp_path, photographs):
    for number, photograph in enumerate(photographs):
        Image.fromarray(photograph).save(tmp_path / f"{number}.png")
    assert [picture.shape for picture in read_backgrounds(tmp_path)] == [
        p.shape for p in photographs
    ]


# ---------------------------------------------------------------- the detector


def test_maps_that_are_their_targets_decode_to_the_boxes():
    boxes = [np.array([[10.0, 12, 20, 30], [40, 3, 16, 18]]), np.empty((0, 4))]
    labels = [np.array([3, 7]), np.empty(0, dtype=np.int64)]
    scores, geometry, counts = center_points.draw_targets(boxes, labels, 64)
    assert scores.shape == (2, 10, 8, 8)
    assert (scores == 1).sum() == 2
    assert counts[1].sum() == 0
    clipped = np.clip(scores, 1e-4, 0.9)
    maps = np.concatenate([np.log(clipped / (1 - clipped)), geometry], axis=1)
    first, second = center_points.decode(maps.astype(np.float32))
    assert len(second) == 0
    best = np.argsort(-first.scores)[:2]
    found = {
        int(label): box for label, box in zip(first.labels[best], first.boxes[best], strict=True)
    }
    np.testing.assert_allclose(found[3], [10, 12, 30, 42], atol=1e-3)
    np.testing.assert_allclose(found[7], [40, 3, 56, 21], atol=1e-3)


def test_the_loss_is_the_published_one():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 14, 3, 3))
    scores = rng.uniform(0, 0.99, (2, 10, 3, 3))
    scores[0, 1, 1, 1] = scores[1, 4, 0, 2] = 1
    geometry = rng.normal(size=(2, 4, 3, 3))
    counts = rng.random((2, 3, 3)) < 0.5
    p = 1 / (1 + np.exp(-maps[:, :10]))
    focal = np.where(
        scores == 1, (1 - p) ** 2 * np.log(p), (1 - scores) ** 4 * p**2 * np.log(1 - p)
    )
    apart = np.abs(maps[:, 10:] - geometry) * counts[:, None]
    expected = -focal.sum() / 2 + apart.sum() / counts.sum()
    ours = center_points.measure_loss(
        *(torch.from_numpy(part) for part in (maps, scores, geometry, counts))
    )
    assert float(ours) == pytest.approx(expected)


def test_images_must_have_one_size_that_is_a_multiple_of_eight():
    network = center_points.build_network((4, 4, 4, 4)).eval()
    with pytest.raises(InputError, match="one size, a multiple of 8"):
        network([np.zeros((64, 60, 3), np.uint8)])
    with pytest.raises(InputError, match="one size"):
        network([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)])


# ---------------------------------------------------------------- the training


@pytest.fixture(scope="module")
def scenes(data):
    return read_scenes(data)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_an_interrupted_training_ends_with_the_same_weights(scenes, tmp_path, monkeypatch):
    through = weights(train_detector(scenes, tmp_path / "a.pt", TRAINING))

    class Stopped(Exception):
        pass

    calls = []
    measure_loss = detector_training.measure_loss

    def until_the_second(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise Stopped
        return measure_loss(*arguments, **options)

    monkeypatch.setattr(detector_training, "measure_loss", until_the_second)
    with pytest.raises(Stopped):
        train_detector(scenes, tmp_path / "b.pt", TRAINING)
    again = weights(train_detector(scenes, tmp_path / "b.pt", TRAINING))
    assert len(calls) == 3  # one step an epoch; the first is not done again
    assert all(torch.equal(again[name], value) for name, value in through.items())
    other = dataclasses.replace(scenes, images=[image[::-1] for image in scenes.images])
    assert not torch.equal(
        weights(train_detector(other, tmp_path / "b.pt", TRAINING))["head.weight"],
        again["head.weight"],
    )


def test_mirrored_batches_keep_their_boxes(tmp_path):
    """A network that is trained on one block learns where it is in the mirror, too."""
    image = np.full((64, 64, 3), 30, np.uint8)
    image[20:40, 8:24] = 220
    one = Scenes([image] * 8, [np.array([[8.0, 20, 16, 20]])] * 8, [np.array([2])] * 8)
    network = train_detector(
        one,
        tmp_path / "weights.pt",
        dataclasses.replace(TRAINING, epochs=60, batch_size=8, peak_rate=1e-2),
    )
    for shown, box in ((image, [8, 20, 24, 40]), (image[:, ::-1], [40, 20, 56, 40])):
        [found] = network([np.ascontiguousarray(shown)])
        best = int(found.scores.argmax())
        assert found.labels[best] == 2
        np.testing.assert_allclose(found.boxes[best], box, atol=3)


# ---------------------------------------------------------------- styles


def test_stylised_scenes_have_their_size_and_are_made_once(scenes, tmp_path, monkeypatch):
    images = stylize_scenes(scenes.images, 0, tmp_path / "stylised.npy")
    assert [image.shape for image in images] == [image.shape for image in scenes.images]
    assert all(
        np.abs(a.astype(int) - b).mean() > 5 for a, b in zip(images, scenes.images, strict=True)
    )
    monkeypatch.setattr(detection, "Stylize", None)
    again = stylize_scenes(scenes.images, 0, tmp_path / "stylised.npy")
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))


def test_half_of_the_combined_scenes_are_stylised(scenes):
    many = Scenes(scenes.images * 50, scenes.boxes * 50, scenes.labels * 50)
    styled = dataclasses.replace(many, images=[255 - image for image in many.images])
    both = mix_scenes(many, styled, 0)
    turned = [a is not b for a, b in zip(both.images, many.images, strict=True)]
    assert 110 < sum(turned) < 190
    assert both.boxes is many.boxes


# ---------------------------------------------------------------- the whole


@pytest.fixture
def few_backgrounds(photographs, monkeypatch):
    """Photographs that are there in no time."""
    monkeypatch.setattr(detection, "read_backgrounds", lambda: photographs)


@pytest.fixture(scope="module")
def finished(folder, photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("recipe") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "read_backgrounds", lambda: photographs)
        return out, detection.reproduce(out, data=folder, plan=PLAN, show_progress=False)


def test_the_tables_are_those_of_the_run(finished):
    out, result = finished
    run = Run(out / "runs/benchmark")
    summary = result.table("summary")
    assert summary.columns[:3] == ["P", "mean", "share"]
    assert summary.rows == list(detection.TITLES.values())
    first = run.scores.models[0]
    assert summary.values[0][0].value == pytest.approx(first.summary["clean"].value, abs=1e-6)
    changes = result.table("changes")
    assert changes.rows == list(detection.TITLES.values())[1:]
    for table in result.tables:
        assert len(table.values) == len(table.rows)
        assert all(len(row) == len(table.columns) for row in table.values)
    assert {finding.name for finding in result.findings} == {
        "loses", "combined-raises", "stylised-raises", "combined-clean", "stylised-clean",
        "most-on-noise", "adapted-gains", "combined-adapted-gains",
    }  # fmt: skip
    assert {"scenes", "stylise", "training, standard", "benchmark"} <= set(result.seconds)


def test_it_goes_on_to_the_same_result(finished, folder, few_backgrounds):
    out, result = finished
    again = detection.reproduce(out, data=folder, plan=PLAN, show_progress=False)
    assert again.tables == result.tables
    assert again.findings == result.findings


def test_test_scenes_have_photographs_of_their_own(finished):
    out, _ = finished
    about = [json.loads((out / part / "annotations/instances.json").read_text())["info"] for part in
             ("train", "test")]  # fmt: skip
    assert about[0]["data"] != about[1]["data"]
    assert (about[0]["name"], about[1]["name"]) == ("train", "test")


def test_held_out_photographs_are_behind_the_test_scenes_alone(folder, tmp_path, monkeypatch):
    seen = {}

    def write(out, count, parts, kind, *, name, show_progress):
        seen[name] = [id(photograph) for photograph in parts.photographs]
        if name == "test":
            raise RuntimeError("seen enough")

    monkeypatch.setattr(detection, "write_scenes", write)
    with pytest.raises(RuntimeError, match="seen enough"):
        detection.reproduce(tmp_path / "out", data=folder, plan=PLAN, show_progress=False)
    assert len(seen["test"]) == PLAN.held_out
    assert not {*seen["train"]} & {*seen["test"]}


def test_a_detector_that_is_not_good_enough_ends_the_recipe(folder, finished, few_backgrounds):
    out, _ = finished
    with pytest.raises(RunError, match=r"AP50 of 0\.\d+ on the clean scenes; expected at least 1"):
        detection.reproduce(
            out, data=folder, plan=dataclasses.replace(PLAN, good_enough=1.0), show_progress=False
        )


# ---------------------------------------------------------------- the paper's scale


def test_ours_stands_before_the_published_rows(data, tmp_path, monkeypatch):
    # The ends of the intervals are of no account here, and most of the time.
    set_replicates(monkeypatch, 20)

    def edges(images):
        from shiftproof import Detections

        found = []
        for image in images:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            x, y, w, h = cv2.boundingRect((grey > 200).astype(np.uint8))
            found.append(Detections([[x, y, x + w, y + h]], [0.5], [0]))
        return found

    from shiftproof import Detector

    detector = Detector(edges, fashion.CLASSES, name="edges")
    result = detection_paper.reproduce(
        tmp_path / "out", data=data, model=detector, workers=0, show_progress=False
    )
    table = result.table("published")
    assert result.title.startswith("COCO-C")
    assert table.rows[:2] == ["this run: edges", "Faster R-CNN R-50-FPN, standard"]
    assert [value.value for value in table.values[1]] == [0.363, 0.182, 0.502]
    run = Run(tmp_path / "out/runs/benchmark")
    assert run.scores.grid.complete
    truth = json.loads((tmp_path / "out/runs/benchmark/ground_truth.json").read_text())
    found = {
        record["id"]: one
        for record, one in zip(
            truth["images"],
            detector.predict([data.read(sample) for sample in data.samples]),
            strict=True,
        )
    }
    assert table.values[0][0].value == pytest.approx(coco_metrics(truth, found)["AP"], abs=1e-6)
    with pytest.raises(InputError, match="needs a dataset with boxes"):
        detection_paper.reproduce(tmp_path / "other", data=None)


def test_published_rows_have_their_ratios():
    """rPC is mPC over P; the rows were typed from the paper."""
    for benchmark in ("Pascal-C", "COCO-C", "Cityscapes-C"):
        for row in read_detectors(benchmark).values():
            assert 100 * row["mPC"] / row["P"] == pytest.approx(row["rPC"], abs=0.35)
