"""Runs of detectors: records, figures, going on, and what is refused."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shiftproof import Detections, Detector, bench, corrupt
from shiftproof.corruptions import COMMON
from shiftproof.data import export_corrupted, open_detection_data
from shiftproof.errors import InputError, LabelError, ModelError, RunMismatchError, UnknownNameError
from shiftproof.io.images import read_image
from shiftproof.metrics.intervals import Interval
from support import blobs
from support.coloured_images import write_tar

pytestmark = pytest.mark.usefixtures("few_resamples")

GRID = blobs.GRID


def measure(detectors, data, *, out, **options):
    """Run detectors; what a task is told goes to the task."""
    task_options = {
        name: options.pop(name) for name in ("measure", "corrupted", "class_map") & options.keys()
    }
    return bench.run(detectors, data, task=bench.Detection(**task_options), out=out, **options)


def everything(folder: Path) -> dict[str, bytes]:
    kept = [p for p in folder.rglob("*") if p.is_file() and p.name != "run.json"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in kept}


def pycocotools_numbers(truth, results):
    """The twelve numbers by pycocotools."""
    coco_module = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco_module.COCO()
        ground.dataset = truth
        ground.createIndex()
        evaluation = cocoeval.COCOeval(ground, ground.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    return dict(zip(names, evaluation.stats, strict=True))


# ---------------------------------------------------------------- the records and the figures


def test_records_hold_what_the_detector_finds_in_the_corrupted_image(blocks, finished):
    records = finished.cell("source", "gaussian_noise", 1)
    assert records.ids == [f"images/{number:03}.png" for number in range(8)]
    for name, found in zip(records.ids, records.found, strict=True):
        image = corrupt(read_image(blocks / name), "gaussian_noise", severity=1, seed=0, key=name)
        [expected] = blobs.find_blocks([image])
        assert len(found) == len(expected)
        boxes = expected.boxes.astype(float)
        np.testing.assert_array_equal(found.positions[:, :2], boxes[:, :2])
        np.testing.assert_array_equal(found.positions[:, 2:], boxes[:, 2:] - boxes[:, :2])
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.labels, expected.labels)


def test_every_cell_has_the_numbers_of_pycocotools(blocks, finished):
    truth = json.loads((blocks / "annotations/blocks.json").read_text())
    identity = {f"images/{r['file_name']}": r["id"] for r in truth["images"]}
    model = finished.scores.models[0]
    cells = [
        ("clean", 0, model.clean),
        *((cell.corruption, cell.severity, cell) for cell in model.cells),
    ]
    assert len(cells) == 5
    measured = 0
    for corruption, severity, cell in cells:
        records = finished.cell("source", corruption, severity)
        results = [
            {
                "image_id": identity[name],
                "category_id": (2, 5, 9)[label],
                "bbox": box.tolist(),
                "score": score,
            }
            for name, found in zip(records.ids, records.found, strict=True)
            for label, box, score in zip(found.labels, found.positions, found.scores, strict=True)
        ]
        if not results:  # pycocotools refuses an empty list
            assert cell.numbers["AP"] == 0
            continue
        measured += 1
        for name, value in pycocotools_numbers(truth, results).items():
            ours = cell.numbers[name]
            assert (-1 if ours is None else ours) == pytest.approx(value, abs=1e-9), (cell, name)
        figure = cell.figures["AP"]
        assert figure.value == pytest.approx(cell.numbers["AP"], abs=1e-9)
        assert figure.low <= figure.value <= figure.high
    assert measured >= 3


def test_the_means_are_those_of_the_cells(finished):
    scores = finished.scores
    model = scores.models[0]
    p = {(c.corruption, c.severity): c.numbers["AP"] for c in model.cells}
    assert model.summary["mean"].value == pytest.approx(sum(p.values()) / 4)
    assert model.summary["clean"].value > 0.9
    assert model.summary["rpc"].value == pytest.approx(
        sum(p.values()) / 4 / model.clean.numbers["AP"]
    )
    of = {name: figure.value for name, figure in model.of_corruptions("AP").items()}
    assert of["contrast"] == pytest.approx((p["contrast", 1] + p["contrast", 5]) / 2)
    # Two corruptions of 15 are no benchmark.
    titles = {one.name: one.title for one in scores.headlines}
    assert not {"mPC", "rPC"} & set(titles.values())
    assert [one.note.partition(",")[0] for one in scores.headlines] == [
        "AP on the images as they are", "mean over what was run", "of the clean AP",
    ]  # fmt: skip
    assert scores.grid.claim == "mPC"
    assert not scores.grid.complete
    assert model.groups == ()
    assert "13 of the 15" in scores.grid.reason
    assert model.detail["sizes"]["APl"] == {"clean": None, "mean": None}
    objects = {row["name"]: row["objects"] for row in model.detail["classes"]}
    assert sum(objects.values()) == scores.images.objects == 15


def test_a_whole_grid_has_mpc_and_rpc_and_groups(tmp_path):
    few = blobs.write_blocks(tmp_path / "few", images=1)
    run = measure(blobs.make_detector(), few, out=tmp_path / "run", workers=0)
    model = run.scores.models[0]
    p = np.array([cell.numbers["AP"] for cell in model.cells])
    assert [cell.corruption for cell in model.cells] == [n for n in COMMON for _ in range(5)]
    assert run.scores.grid.complete
    titles = {one.name: one.title for one in run.scores.headlines}
    assert (titles["mean"], titles["rpc"]) == ("mPC", "rPC")
    assert run.scores.headlines[2].note == "mPC as a share of the clean AP"
    assert model.summary["mean"].value == pytest.approx(p.mean())
    assert model.summary["rpc"].value == pytest.approx(p.mean() / model.clean.numbers["AP"])
    groups = {name: figure.value for name, figure in model.of_groups("AP").items()}
    assert groups["noise"] == pytest.approx(p[:15].mean())
    assert groups["digital"] == pytest.approx(p[55:].mean())


def test_nothing_found_is_zero_and_no_crash(blocks, tmp_path):
    blind = Detector(lambda images: [Detections([], [], [])] * len(images), blobs.NAMES)
    run = measure(blind, blocks, out=tmp_path / "run", **GRID)
    model = run.scores.models[0]
    assert model.clean.numbers["AP"] == 0
    assert model.summary["mean"].value == 0
    assert model.summary["rpc"] is None


def test_a_broken_image_is_named_and_counts_in_no_cell(blocks, finished, tmp_path):
    data = shutil.copytree(blocks, tmp_path / "data")
    (data / "images/002.png").write_bytes(b"no picture")
    run = measure(blobs.make_detector(), data, out=tmp_path / "run", **GRID)
    images = run.scores.images
    assert (images.total, images.used) == (8, 7)
    [entry] = images.broken
    assert entry.id == "images/002.png"
    assert entry.cells == 5
    # The others' figures are those of a dataset without it.
    truth = json.loads((blocks / "annotations/blocks.json").read_text())
    truth["images"] = [one for one in truth["images"] if one["id"] != 24]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] != 24]
    (data / "annotations/blocks.json").write_text(json.dumps(truth))
    (data / "images/002.png").unlink()
    without = measure(blobs.make_detector(), data, out=tmp_path / "other", **GRID)
    assert without.scores.models[0].cells == run.scores.models[0].cells


def test_several_detectors_are_compared_on_the_same_resamples(blocks, tmp_path):
    half = Detector(
        lambda images: [
            Detections(one.boxes[:1], one.scores[:1], one.labels[:1])
            for one in blobs.find_blocks(images)
        ],
        blobs.NAMES,
    )
    detectors = {"all": blobs.make_detector(), "first": half, "again": blobs.make_detector()}
    run = measure(detectors, blocks, out=tmp_path / "run", **GRID)
    first, again = run.scores.differences
    models = {model.name: model for model in run.scores.models}
    assert first.against == "all"
    assert first.summary["clean"].value == pytest.approx(
        models["first"].summary["clean"].value - models["all"].summary["clean"].value
    )
    assert first.summary["clean"].high < 0
    assert again.summary["mean"] == Interval(0.0, 0.0, 0.0)


# ---------------------------------------------------------------- going on


def test_a_run_that_was_interrupted_goes_on_to_the_same_bytes(blocks, finished, tmp_path):
    seen = []

    def stops(images):
        seen.append(len(images))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return blobs.find_blocks(images)

    stops.fingerprint = "unknown"
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        measure(Detector(stops, blobs.NAMES, name="blocks"), blocks, out=out, batch_size=3, **GRID)
    assert len(list((out / "records").rglob("*.parquet"))) == 1
    # The settings name the function; a detector of another function is another run.
    with pytest.raises(RunMismatchError, match="models: source: module"):
        measure(blobs.make_detector(), blocks, out=out, batch_size=3, **GRID)
    measure(Detector(stops, blobs.NAMES, name="blocks"), blocks, out=out, batch_size=3, **GRID)
    assert everything(out) == everything(finished.path)


def test_a_data_set_with_boxes_needs_no_task(blocks, finished, tmp_path):
    data = open_detection_data(blocks)
    run = bench.run(blobs.make_detector(), data, out=tmp_path / "run", **GRID)
    assert run.kind == "detection"
    assert everything(run.path) == everything(finished.path)


def test_the_records_are_one_table(finished):
    table = finished.records(corruptions=["contrast"])
    assert len(table) == 2 * 8
    [first] = finished.records(severities=[5], corruptions=["contrast"]).slice(0, 1).to_pylist()
    found = finished.cell("source", "contrast", 5).found[0]
    assert (first["model"], first["corruption"], first["severity"]) == ("source", "contrast", 5)
    assert first["label"] == found.labels.tolist()
    assert first["box"] == found.positions.tolist()


def test_workers_and_batches_change_no_byte(blocks, finished, tmp_path):
    grid = {**GRID, "workers": 1}
    run = measure(blobs.make_detector(), blocks, out=tmp_path / "run", batch_size=1, **grid)
    assert everything(run.path) == everything(finished.path)


def test_corrupted_copies_on_disk_give_the_same_figures(blocks, finished, tmp_path):
    export_corrupted(
        blocks, tmp_path / "copies", corruptions=GRID["corruptions"], severities=[1, 5], workers=0
    )
    run = measure(
        blobs.make_detector(), blocks, corrupted=tmp_path / "copies", out=tmp_path / "run", **GRID
    )
    assert run.scores.models == finished.scores.models
    with pytest.raises(InputError, match=r"no cell contrast-3\. Choose"):
        measure(
            blobs.make_detector(),
            blocks,
            corrupted=tmp_path / "copies",
            corruptions=["contrast"],
            severities=[3],
            out=tmp_path / "other",
        )


def pack(blocks, folder, kind):
    """Pack the blocks as a webdataset tar, or as Parquet of two splits."""
    truth = json.loads((blocks / "annotations" / "blocks.json").read_text())
    names = {record["id"]: record["name"] for record in truth["categories"]}
    contents, stated = [], []
    for record in truth["images"]:
        own = [one for one in truth["annotations"] if one["image_id"] == record["id"]]
        contents.append((blocks / "images" / record["file_name"]).read_bytes())
        stated.append(
            {
                "bbox": [one["bbox"] for one in own],
                "category": [names[one["category_id"]] for one in own],
            }
        )
    if kind == "tars":
        members = []
        for number, (image, objects) in enumerate(zip(contents, stated, strict=True)):
            members.append((f"{number:03}.png", image))
            members.append((f"{number:03}.json", json.dumps({"objects": objects}).encode()))
        write_tar(folder / "0.tar", members)
        return folder
    folder.mkdir()
    images = pa.array(contents, pa.binary())
    for split in ("test", "val"):
        pq.write_table(pa.table({"image": images, "objects": stated}), folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("kind", ["tars", "tables"])
def test_corrupted_copies_of_tars_and_tables_give_the_same_figures(
    kind, blocks, tmp_path, few_resamples
):
    source = pack(blocks, tmp_path / "packed", kind)
    export_corrupted(
        source, tmp_path / "copies", corruptions=GRID["corruptions"], severities=[1, 5], workers=0
    )
    data = open_detection_data(source, split="val" if kind == "tables" else None)
    detector = blobs.make_detector()
    fly = bench.run(detector, data, task=bench.Detection(), out=tmp_path / "fly", **GRID)
    task = bench.Detection(corrupted=tmp_path / "copies")
    disk = bench.run(detector, data, task=task, out=tmp_path / "disk", **GRID)
    assert disk.scores.models == fly.scores.models
    assert everything(disk.path / "records") == everything(fly.path / "records")


def test_copies_of_another_size_are_not_measured(blocks, tmp_path):
    from PIL import Image

    export_corrupted(
        blocks, tmp_path / "copies", corruptions=["contrast"], severities=[1], workers=0
    )
    path = tmp_path / "copies/contrast/1/images/001.png"
    Image.open(path).resize((20, 20)).save(path)
    run = measure(
        blobs.make_detector(),
        blocks,
        corrupted=tmp_path / "copies",
        corruptions=["contrast"],
        severities=[1],
        out=tmp_path / "run",
        workers=0,
    )
    [entry] = run.scores.images.broken
    assert "has 20 x 20 pixels, and its boxes were drawn in 56 x 48" in entry.reason


# ---------------------------------------------------------------- VOC, classes, adapters


def test_the_measure_follows_the_data_and_can_be_chosen(blocks, tmp_path):
    run = measure(blobs.make_detector(), blocks, out=tmp_path / "run", measure="voc", **GRID)
    assert run.scores.measure.name == "AP50"
    assert run.scores.measure.title == "AP50 (Pascal VOC, 11-point)"
    clean = run.scores.models[0].clean
    assert run.scores.models[0].detail["sizes"] == {}
    assert clean.numbers == {"AP50": pytest.approx(clean.figures["AP50"].value)}


def test_voc_data_have_their_own_measure(tmp_path):
    (tmp_path / "voc/JPEGImages").mkdir(parents=True)
    (tmp_path / "voc/Annotations").mkdir()
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "voc/JPEGImages/1.png")
    (tmp_path / "voc/Annotations/1.xml").write_text(
        "<annotation><filename>1.png</filename><size><width>40</width><height>40</height>"
        "<depth>3</depth></size><object><name>red</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    run = measure(
        Detector(blobs.find_blocks, ["red", "green", "blue"]),
        tmp_path / "voc",
        out=tmp_path / "run",
        **{**GRID, "corruptions": ["contrast"], "severities": [1]},
    )
    assert run.scores.measure.name == "AP50"


def test_classes_are_matched_by_name(blocks, finished, tmp_path):
    order = [1, 0, 2]

    def other_order(images):
        return [
            Detections(one.boxes, one.scores, [order[label] for label in one.labels])
            for one in blobs.find_blocks(images)
        ]

    turned = Detector(other_order, ["green", "red", "azure", "kite"])
    run = measure(turned, blocks, out=tmp_path / "run", class_map={"azure": "blue"}, **GRID)
    assert run.scores.models[0].cells == finished.scores.models[0].cells
    match = json.loads((tmp_path / "run/run.json").read_text())["settings"]["classes"]["source"]
    assert match["unused"] == ["kite"]
    with pytest.raises(LabelError, match="no class in common"):
        measure(blobs.make_detector(["a", "b", "c"]), blocks, out=tmp_path / "other", **GRID)
    assert not (tmp_path / "other").exists()


def test_the_gallery_tells_kept_lost_and_invented_boxes(finished):
    gallery = json.loads((finished.path / "gallery.json").read_text())
    assert gallery["thresholds"]["source"] > 0.5
    sheet = gallery["sheets"][0]
    assert sheet["size"] == [56, 48]
    clean = sheet["found"]["source"]["clean"]
    assert sorted(one["thing"] for one in clean) == list(range(len(sheet["things"])))
    for one in clean:
        assert one["name"] == sheet["things"][one["thing"]]["name"]
    for name in (*sheet["files"].values(), gallery["worst"][0]["corrupted"]["file"]):
        assert (finished.path / name).read_bytes()[:2] == b"\xff\xd8"
    shares = [entry["lost"] for entry in gallery["worst"]]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"measure": "cocoa"}, UnknownNameError, "coco"),
        ({"batch_size": 0}, InputError, "batch_size of 1 or more"),
        ({"severities": [0]}, InputError, "severities from 1 to 5"),
        ({"encode": "webp"}, UnknownNameError, "jpeg"),
        ({"adapters": ["batchnorm"]}, ModelError, "cannot be adapted"),
        ({"corruptions": ["fogg"]}, UnknownNameError, "fog"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    blocks, tmp_path, change, error, message
):
    with pytest.raises(error, match=message):
        measure(blobs.make_detector(), blocks, out=tmp_path / "run", **{**GRID, **change})
    assert not (tmp_path / "run").exists()


def test_data_without_boxes_are_refused(tmp_path, photos):
    with pytest.raises(InputError, match="not a dataset with boxes"):
        measure(blobs.make_detector(), photos, out=tmp_path / "run", **GRID)


def test_the_ground_truth_is_kept_so_that_a_run_can_be_scored_again(blocks, finished):
    kept = json.loads((finished.path / "ground_truth.json").read_text())
    data = open_detection_data(blocks)
    assert kept["annotations"] == data.ground_truth()["annotations"]


def test_a_data_set_without_an_object_is_refused_before_the_run(blocks, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(blocks, data)
    path = data / "annotations/blocks.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "annotations": []}))
    with pytest.raises(InputError, match=r"has no object to find in 8 images"):
        bench.run(
            blobs.make_detector(), data, task=bench.Detection(), out=tmp_path / "run", **blobs.GRID
        )
    assert not (tmp_path / "run").exists()
