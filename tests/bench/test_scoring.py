"""Result files of other frameworks: the same figures as if we had detected it ourselves."""

import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from typer.testing import CliRunner

from shiftproof import bench, load_run
from shiftproof.bench.scoring import score_request
from shiftproof.bench.scoring.name_matching import NameIndex, find_aliases
from shiftproof.bench.scoring.result_files import find_predictions, parse_cell
from shiftproof.bench.scoring.result_tables import read_table
from shiftproof.cli import app
from shiftproof.corruptions import COMMON
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.metrics.intervals import Interval
from shiftproof.types import CLEAN, Cell
from support import blobs
from support.random_detections import pycocotools

pytestmark = pytest.mark.usefixtures("few_resamples")

GRID = blobs.GRID
CELLS = [CLEAN, *(Cell(c, s) for c in GRID["corruptions"] for s in GRID["severities"])]


def results_of(run, blocks, cell):
    truth = json.loads((blocks / "annotations/blocks.json").read_text())
    identity = {f"images/{r['file_name']}": r["id"] for r in truth["images"]}
    records = run.cell("source", cell.corruption, cell.severity)
    return [
        {
            "image_id": identity[name],
            "category_id": (2, 5, 9)[label],
            "bbox": box.tolist(),
            "score": float(score),
        }
        for name, found in zip(records.ids, records.found, strict=True)
        for label, box, score in zip(found.labels, found.positions, found.scores, strict=True)
    ]


@pytest.fixture
def predictions(blocks, finished, tmp_path):
    for cell in CELLS:
        name = "clean.json" if cell.is_clean else f"{cell.corruption}/{cell.severity}.json"
        path = tmp_path / "predictions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results_of(finished, blocks, cell)))
    return tmp_path / "predictions"


@pytest.fixture
def annotations(blocks):
    return blocks / "annotations/blocks.json"


# ---------------------------------------------------------------- result files


def test_scores_are_those_of_the_run_that_detected(predictions, annotations, finished, tmp_path):
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    ours, theirs = run.scores.models[0], finished.scores.models[0]
    for key in ("summary", "clean", "cells", "corruptions", "groups", "detail"):
        assert getattr(ours, key) == getattr(theirs, key), key
    assert run.scores.images.total == 8
    info = json.loads((tmp_path / "run/run.json").read_text())
    assert info["kind"] == "detection"


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("fog/3.json", Cell("fog", 3)),
        ("fog/3/results.bbox.json", Cell("fog", 3)),
        ("Fog/severity_3/coco_instances_results.json", Cell("fog", 3)),
        ("weather/fog/3/x.json", Cell("fog", 3)),
        ("fog-3.json", Cell("fog", 3)),
        ("gaussian_noise_5.bbox.json", Cell("gaussian_noise", 5)),
        ("Gaussian Noise/5.json", Cell("gaussian_noise", 5)),
        ("fog/0.json", CLEAN),
        ("none/0.json", CLEAN),
        ("clean/results.segm.json", CLEAN),
        ("dust/2.json", Cell("dust", 2)),
        ("contrast/03.json", Cell("contrast", 3)),
        ("contrast/severity_03/x.json", Cell("contrast", 3)),
        ("pixelate3.json", Cell("pixelate", 3)),
        ("pixelate_3.json", Cell("pixelate", 3)),
        ("pixelate-03.json", Cell("pixelate", 3)),
        ("Pixelate s3.JSON", Cell("pixelate", 3)),
        ("pixelate00.json", CLEAN),
        ("pixelate13.json", None),
        ("pixelate6.json", None),
        ("dust3.json", None),
        ("fog/6.json", None),
        ("instances_val2017.json", None),
        ("notes/readme.json", None),
        ("dust-2.json", None),
    ],
)
def test_file_names_say_the_cell(name, cell):
    assert parse_cell(name) == cell


def test_a_file_of_boxes_and_one_of_masks_in_one_cell(tmp_path):
    for name in ("clean.json", "fog/3/r.bbox.json", "fog/3/r.segm.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    assert find_predictions(tmp_path).files[Cell("fog", 3)].name == "r.bbox.json"
    assert find_predictions(tmp_path, masks=True).files[Cell("fog", 3)].name == "r.segm.json"
    (tmp_path / "fog/3/again.json").write_text("[]")
    (tmp_path / "fog/3/r.bbox.json").rename(tmp_path / "fog/3/other.json")
    with pytest.raises(InputError, match=r"2 files are of the cell fog-3 \(fog/3/again\.json"):
        find_predictions(tmp_path)


def test_the_clean_cell_under_every_corruption_is_one(tmp_path):
    for name in ("fog", "snow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.json").write_text("[]")
        (tmp_path / name / "3.json").write_text("[]")
    assert sorted(find_predictions(tmp_path).files) == [CLEAN, Cell("fog", 3), Cell("snow", 3)]
    (tmp_path / "snow/0.json").write_text("[ ]")
    with pytest.raises(InputError, match="2 times with different content"):
        find_predictions(tmp_path)


def test_a_missing_cell_is_named_and_no_mpc_is_claimed(predictions, annotations, tmp_path):
    (predictions / "contrast/5.json").unlink()
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    grid = run.scores.grid
    assert grid.missing == ("contrast-5",)
    assert not grid.complete
    assert grid.reason is not None
    assert "mPC" not in {one.title for one in run.scores.headlines}
    assert [(c.corruption, c.severity) for c in run.scores.models[0].cells] == [
        ("gaussian_noise", 1), ("gaussian_noise", 5), ("contrast", 1),
    ]  # fmt: skip


def test_without_the_clean_cell_there_is_no_share(predictions, annotations, tmp_path):
    (predictions / "clean.json").unlink()
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    model = run.scores.models[0]
    assert run.scores.grid.missing == ("clean",)
    assert model.clean is None
    assert model.summary["clean"] is None
    assert model.summary["rpc"] is None
    assert model.summary["mean"].value > 0


def test_an_empty_list_is_a_cell_where_nothing_was_found(predictions, annotations, tmp_path):
    (predictions / "contrast/5.json").write_text("[]")
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    assert run.scores.models[0].cells[3].figures["AP"].value == 0


def test_two_frameworks_are_compared(predictions, annotations, tmp_path):
    other = tmp_path / "other"
    for path in predictions.rglob("*.json"):
        target = other / path.relative_to(predictions)
        target.parent.mkdir(parents=True, exist_ok=True)
        value = json.loads(path.read_text())
        target.write_text(json.dumps(value[::2]))
    run = bench.score({"a": predictions, "b": other}, annotations, out=tmp_path / "run", workers=0)
    [difference] = run.scores.differences
    assert (difference.name, difference.against) == ("b", "a")
    assert difference.summary["clean"].value < 0


def test_data_without_ids_take_names(blocks, finished, tmp_path, predictions):
    """YOLO and VOC data have no ids: frameworks write the file's stem, or its number."""
    voc = tmp_path / "voc"
    for folder in ("JPEGImages", "Annotations"):
        (voc / folder).mkdir(parents=True)
    truth = json.loads((blocks / "annotations/blocks.json").read_text())
    names = dict(zip((2, 5, 9), blobs.NAMES, strict=True))
    for record in truth["images"]:
        (voc / "JPEGImages" / record["file_name"]).write_bytes(
            (blocks / "images" / record["file_name"]).read_bytes()
        )
        objects = "".join(
            f"<object><name>{names[o['category_id']]}</name><bndbox><xmin>{o['bbox'][0]}</xmin>"
            f"<ymin>{o['bbox'][1]}</ymin><xmax>{o['bbox'][0] + o['bbox'][2]}</xmax>"
            f"<ymax>{o['bbox'][1] + o['bbox'][3]}</ymax></bndbox></object>"
            for o in truth["annotations"]
            if o["image_id"] == record["id"]
        )
        stem = record["file_name"].removesuffix(".png")
        (voc / f"Annotations/{stem}.xml").write_text(
            f"<annotation><filename>{record['file_name']}</filename><size><width>56</width>"
            f"<height>48</height><depth>3</depth></size>{objects}</annotation>"
        )
    stems = {record["id"]: record["file_name"].removesuffix(".png") for record in truth["images"]}
    for number, path in enumerate(sorted(predictions.rglob("*.json"))):
        value = [
            {
                **one,
                "image_id": stems[one["image_id"]] if number % 2 else int(stems[one["image_id"]]),
                "category_id": names[one["category_id"]],
            }
            for one in json.loads(path.read_text())
        ]
        path.write_text(json.dumps(value))
    run = bench.score(predictions, voc, out=tmp_path / "run", measure="coco", workers=0)
    assert run.scores.models[0].summary == finished.scores.models[0].summary
    own = bench.score(predictions, voc, out=tmp_path / "own", workers=0)
    assert own.scores.measure.name == "AP50"


def test_other_predictions_are_another_run(predictions, annotations, tmp_path):
    bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    (predictions / "gaussian_noise/1.json").write_text("[]")
    with pytest.raises(RunMismatchError, match=r"gaussian_noise-1"):
        bench.score(predictions, annotations, out=tmp_path / "run", workers=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 11}, r"contrast/5\.json\[0\]: image_id: 11 is no image"),
        ({"image_id": [11]}, r"contrast/5\.json\[0\]: image_id: \[11\] is no image"),
        ({"score": 1.5}, r"contrast/5\.json\[0\]: expected scores in 0\.\.1, got 1\.5"),
    ],
)
def test_a_file_of_other_images_or_of_no_probabilities_is_refused(
    predictions, annotations, tmp_path, change, message
):
    good = json.loads((predictions / "clean.json").read_text())[0]
    (predictions / "contrast/5.json").write_text(json.dumps([{**good, **change}] * 10))
    with pytest.raises(InputError, match=message):
        bench.score(predictions, annotations, out=tmp_path / "run", workers=0)


ODD_RECORDS = [
    ({"category_id": 3}, "of no class", False),
    ({"category_id": [3]}, "of no class", False),
    ({"category_id": 10**30}, "of no class", False),
    ({"image_id": 11}, "of no image", False),
    ({"image_id": [3]}, "of no image", False),
    ({"image_id": None}, "of no image", False),
    ({"image_id": "\ud800"}, "of no image", False),
    ({"score": 1.0000001192092896}, "a score outside 0..1", True),
    ({"score": -1e-7}, "a score outside 0..1", True),
    ({"score": 1.5}, "a score outside 0..1", True),
    ({"score": None}, "no finite score", False),
    ({"score": float("nan")}, "no finite score", False),
    ({"bbox": [1, 2, 3]}, "not four finite numbers", False),
    ({"bbox": [1, 2, float("nan"), 4]}, "not four finite numbers", False),
    ({"bbox": [1, 2, -1e-6, 4]}, "negative size", True),
    ({"bbox": ["1", 2, 3, 4]}, "a number as text", True),
]


@pytest.mark.parametrize(("change", "reason", "kept"), ODD_RECORDS)
def test_one_odd_record_is_listed_and_the_others_are_scored(
    predictions, annotations, finished, tmp_path, change, reason, kept
):
    path = predictions / "contrast/5.json"
    good = json.loads((predictions / "clean.json").read_text())[0]
    results = [*json.loads(path.read_text()), {**good, **change}]
    path.write_text(json.dumps(results))
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    info = run.folder.info()
    counted = info["result_faults"]["detector"]["contrast-5"]
    assert counted["faults"] == {reason: 1}
    assert counted["left out"] == (not kept)
    [first] = counted["first"]
    assert first.startswith(f"contrast/5.json[{len(results) - 1}]: {reason}")
    cells = run.scores.models[0].cells
    theirs = finished.scores.models[0].cells
    assert cells[:3] == theirs[:3]
    if not kept:
        assert cells[3] == theirs[3]
    else:
        truth = json.loads(annotations.read_text())
        readable = [{**one, "bbox": [float(v) for v in one["bbox"]]} for one in results]
        assert cells[3].figures["AP"].value == pytest.approx(pycocotools(truth, readable).stats[0])
    [line, count] = load_run(tmp_path / "run").info.describe_faults()
    assert line == first
    assert count.startswith(f"1 fault in the result files of detector, {1 - kept} left out")


def test_faults_of_an_interrupted_run_are_kept(predictions, annotations, tmp_path, monkeypatch):
    good = json.loads((predictions / "clean.json").read_text())[0]
    for name in ("clean.json", "contrast/1.json"):
        value = json.loads((predictions / name).read_text())
        (predictions / name).write_text(json.dumps([*value, {**good, "category_id": 3}]))
    bench.score(predictions, annotations, out=tmp_path / "whole", workers=0)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(score_request, "summarize", stop)
        with pytest.raises(KeyboardInterrupt):
            bench.score(predictions, annotations, out=tmp_path / "cut", workers=0)
    (tmp_path / "cut/records/detector/contrast-1.parquet").unlink()
    bench.score(predictions, annotations, out=tmp_path / "cut", workers=0)
    whole, cut = (json.loads((tmp_path / f"{n}/run.json").read_text()) for n in ("whole", "cut"))
    assert list(whole["result_faults"]["detector"]) == ["clean", "contrast-1"]
    assert whole["result_faults"] == cut["result_faults"]


def test_faults_of_the_annotations_are_recorded_and_told(predictions, annotations, tmp_path):
    truth = json.loads(annotations.read_text())
    first = truth["annotations"][0]
    truth["annotations"] += [
        {**first, "id": 900, "bbox": None},
        {**first, "id": 901, "image_id": 7e9},
    ]
    truth["images"][0]["license"] = float("nan")
    truth["info"] = {"note": "\ud800"}
    del truth["categories"][0]["name"]
    path = tmp_path / "truth.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(truth).encode())
    result = CliRunner().invoke(
        app,
        ["score", "-p", str(predictions), "-d", str(path), "-o", str(tmp_path / "run"), "-w", "0"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    info = json.loads((tmp_path / "run/run.json").read_text())
    assert info["settings"]["data"]["faults"] == info["data_faults"]["faults"]
    assert info["data_faults"]["left out"] == 2
    assert "truth.json, annotations" in result.stderr
    assert "3 faults in the annotations, 2 left out" in result.stderr
    page = (tmp_path / "run/report.html").read_text()
    assert "3 faults in the annotations" in page


@pytest.mark.parametrize("area", [float("nan"), -5, "12", float("inf")])
def test_an_odd_area_counts_as_in_pycocotools(predictions, annotations, tmp_path, area):
    truth = json.loads(annotations.read_text())
    truth["annotations"][0]["area"] = area
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    run = bench.score(predictions, path, out=tmp_path / "run", workers=0)
    truth["annotations"][0]["area"] = float(area)
    for one in truth["annotations"]:
        one.setdefault("iscrowd", 0)
    expected = pycocotools(truth, json.loads((predictions / "clean.json").read_text())).stats
    assert run.scores.models[0].summary["clean"].value == pytest.approx(expected[0])
    json.loads((tmp_path / "run/ground_truth.json").read_text(), parse_constant=lambda token: 1 / 0)


@pytest.mark.parametrize(("measure", "lost"), [("coco", 0), ("voc", 1)])
def test_the_objects_are_those_that_the_measure_counts(
    predictions, annotations, tmp_path, measure, lost
):
    """COCO's measure finds an object with ``ignore`` like all others; Pascal VOC's leaves it out."""
    truth = json.loads(annotations.read_text())
    truth["categories"].reverse()
    [first, second, *_] = truth["annotations"]
    first["ignore"], second["iscrowd"] = 1, 1
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    run = bench.score(predictions, path, out=tmp_path / "run", measure=measure, workers=0)
    plain = [one["category_id"] for one in truth["annotations"] if one is not second]
    assert run.scores.images.objects == len(plain) - lost
    counts = {one["name"]: one["objects"] for one in run.scores.models[0].detail["classes"]}
    for record in truth["categories"]:
        is_less = lost and record["id"] == first["category_id"]
        assert counts[record["name"]] == plain.count(record["id"]) - bool(is_less)


# ---------------------------------------------------------------- what images are called


def rename(predictions, call):
    for path in predictions.rglob("*.json"):
        value = [{**one, "image_id": call(one["image_id"])} for one in json.loads(path.read_text())]
        path.write_text(json.dumps(value))


@pytest.mark.parametrize("kind", ["text", "number", "name", "path", "float"])
def test_coco_results_may_name_images_by_their_files(
    predictions, annotations, finished, tmp_path, kind
):
    """As Ultralytics writes them: the stem, or its number where it is one."""
    truth = json.loads(annotations.read_text())
    # Stems that are the ids of other images, too, but for the last.
    stems = {one["id"]: f"{(at + 1):06d}" for at, one in enumerate(truth["images"])}
    fresh = {one["id"]: at for at, one in enumerate(truth["images"])}
    for one in truth["images"]:
        one["file_name"] = f"images\\{stems[one['id']]}.jpg"
        one["id"] = fresh[one["id"]]
    for one in truth["annotations"]:
        one["image_id"] = fresh[one["image_id"]]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    write = {
        "text": lambda stem: stem, "number": int, "float": float,
        "name": lambda stem: f"{stem}.jpg", "path": lambda stem: f"images/{stem}.jpg",
    }[kind]  # fmt: skip
    rename(predictions, lambda identity: write(stems[identity]))
    run = bench.score(predictions, path, out=tmp_path / "run", workers=0)
    assert run.scores.models[0].summary == finished.scores.models[0].summary


def test_ids_stay_ids_where_files_are_numbered_otherwise(
    predictions, annotations, finished, tmp_path
):
    truth = json.loads(annotations.read_text())
    ids = [one["id"] for one in truth["images"]]
    for one, other in zip(truth["images"], [*ids[1:], ids[0]], strict=True):
        one["file_name"] = f"{other}.jpg"
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    run = bench.score(predictions, path, out=tmp_path / "run", workers=0)
    assert run.scores.models[0].summary == finished.scores.models[0].summary


def test_names_that_could_be_either_are_refused():
    images = [{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "a.jpg"}]
    names = NameIndex({"images": images, "categories": []}, has_ids=True)
    assert names.may_clash
    assert not names.uses_file_names("p", [1, 2])
    assert names.uses_file_names("p", ["a", 2])
    with pytest.raises(InputError, match=r"p: the image_id 2 is the id of one image and the file"):
        names.uses_file_names("p", [1, 2, "a"])
    assert names.translate([{"image_id": 2}, 5], by_name=True) == [{"image_id": 1}, 5]
    assert names.translate([{"image_id": 2}], by_name=False) == [{"image_id": 2}]


def test_classes_may_be_named(predictions, annotations, finished, tmp_path):
    names = dict(zip((2, 5, 9), blobs.NAMES, strict=True))
    for path in predictions.rglob("*.json"):
        value = json.loads(path.read_text())
        path.write_text(
            json.dumps([{**one, "category_id": names[one["category_id"]]} for one in value])
        )
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    assert run.scores.models[0].summary == finished.scores.models[0].summary


# ---------------------------------------------------------------- what is no cell, and no object


def test_files_whose_names_say_no_cell_are_told(predictions, annotations, tmp_path):
    (predictions / "contrast/10.json").write_text("[]")
    (predictions / "notes.json").write_text("{}")
    result = CliRunner().invoke(
        app,
        ["score", "-p", str(predictions), "-d", str(annotations), "-o", str(tmp_path / "run"), "-w", "0"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    message = "passed over, as their names say no cell: contrast/10.json, notes.json."
    assert message in result.stderr
    assert message in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize("change", [{"iscrowd": 1}, {"bbox": None}, {"image_id": -3}, None])
def test_annotations_without_an_object_to_find_are_refused(
    predictions, annotations, tmp_path, change
):
    truth = json.loads(annotations.read_text())
    truth["annotations"] = [{**one, **change} for one in truth["annotations"]] if change else []
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    with pytest.raises(InputError, match="has no object to find in 8 images"):
        bench.score(predictions, path, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{}", InputError, r"contrast/5\.json.*expected COCO results, a list"),
        ("[1]", InputError, r"contrast/5\.json\[0\]: expected an object"),
        ("[{}]", InputError, r"contrast/5\.json\[0\]: image_id is missing"),
        ("no json", BrokenFileError, "not valid JSON"),
    ],
)
def test_files_of_another_kind_are_refused(
    predictions, annotations, tmp_path, content, error, message
):
    (predictions / "contrast/5.json").write_text(content)
    with pytest.raises(error, match=message):
        bench.score(predictions, annotations, out=tmp_path / "run", workers=0)


def test_corners_in_the_place_of_sizes_are_refused(predictions, annotations, tmp_path):
    truth = json.loads(annotations.read_text())
    corners = [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": [x, y, x + w, y + h],
            "score": 0.9,
        }
        for one in truth["annotations"]
        for x, y, w, h in [[one["bbox"][0] + 24, one["bbox"][1] + 24, *one["bbox"][2:]]]
    ]
    (predictions / "contrast/5.json").write_text(json.dumps(corners))
    with pytest.raises(InputError, match="subtract x1 from x2"):
        bench.score(predictions, annotations, out=tmp_path / "run", workers=0)


def test_a_folder_without_cells_is_refused(annotations, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/results.json").write_text("[]")
    with pytest.raises(InputError, match=r"no result file of a cell.*say no corruption: results"):
        bench.score(tmp_path / "p", annotations, out=tmp_path / "run")
    with pytest.raises(InputError, match="does not exist"):
        bench.score(tmp_path / "q", annotations, out=tmp_path / "run")
    with pytest.raises(InputError, match="Expected the annotations"):
        bench.score(tmp_path / "p", out=tmp_path / "run")
    with pytest.raises(InputError, match="it names a folder"):
        bench.score({"../p": tmp_path / "p"}, annotations, out=tmp_path / "run")
    (tmp_path / "table.csv").write_text("corruption,1\nclean,0.5\n")
    both = {"a": tmp_path / "table.csv", "b": tmp_path / "p"}
    with pytest.raises(InputError, match="is a table, and not all others are; score folders"):
        bench.score(both, annotations, out=tmp_path / "run")


def test_a_name_that_two_images_have_names_neither():
    named = find_aliases(
        [{"id": 1, "file_name": "a/7.png"}, {"id": 2, "file_name": "b/7.png"},
         {"id": 3, "file_name": "b/8.png"}]
    )  # fmt: skip
    assert named["a/7.png"] == named["a/7"] == 1
    assert named["b/7"] == 2
    assert named[8] == named["8"] == named["8.png"] == 3
    assert not {"7", 7, "7.png"} & named.keys()


# ---------------------------------------------------------------- tables


def robustness(make):
    """As mmdetection's test_robustness aggregates: severity 0 under every corruption, not first."""
    return {
        name: {severity: make(number, severity) for severity in (3, 1, 2, 0, 4, 5)}
        for number, name in enumerate((*COMMON, "speckle_noise"))
    }


def coco_row(number, severity):
    ap = np.float64(0.4 if severity == 0 else 0.3 - 0.01 * number - 0.02 * severity)
    row = dict.fromkeys(("AP50", "AP75", "APs", "APm", "APl"), np.float64(0.1))
    return OrderedDict(bbox={"AP": ap, **row})


def test_a_pickle_of_mmdetection_gives_mpc_and_rpc(tmp_path):
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps(robustness(coco_row)))
    run = bench.score(path, out=tmp_path / "run")
    model = run.scores.models[0]
    # The mean over numbers 0 to 14 and severities 1 to 5; speckle_noise is a hold-out one.
    mpc = 0.3 - 0.01 * 7 - 0.02 * 3
    assert {"mPC", "rPC"} < {one.title for one in run.scores.headlines}
    assert model.summary["mean"] == Interval(pytest.approx(mpc))
    assert model.summary["mean"].bare
    assert model.summary["rpc"].value == pytest.approx(mpc / 0.4)
    assert model.summary["clean"].value == pytest.approx(0.4)
    assert model.detail["sizes"]["APs"] == {"clean": 0.1, "mean": 0.1}
    assert run.scores.interval.replicates == 0
    assert run.scores.images.total is None


def test_a_pickle_for_voc_is_a_list_of_classes(tmp_path):
    def row(number, severity):
        value = 0.8 if severity == 0 else 0.5
        return [{"ap": np.float32(value + 0.01 * at)} for at in range(20)]

    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps(robustness(row)))
    run = bench.score(path, out=tmp_path / "run")
    assert run.scores.measure.name == "AP50"
    model = run.scores.models[0]
    assert model.summary["clean"].value == pytest.approx(0.8 + 0.01 * 9.5)
    rows = {row["name"]: row for row in model.detail["classes"]}
    assert rows["aeroplane"]["objects"] is None
    assert len({row["objects"] for row in rows.values()}) == 1
    assert rows["aeroplane"]["clean"] == pytest.approx(0.8)
    assert rows["tvmonitor"]["mean"] == pytest.approx(0.69)


def written(path, table):
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(table))
    else:
        path.write_text(json.dumps(table))
    return path


@pytest.mark.parametrize("suffix", [".pkl", ".json"])
@pytest.mark.parametrize(
    ("prefix", "kind", "measure"),
    [
        ("coco/", "bbox", "auto"), ("coco/", "segm", "coco-masks"), ("", "bbox", "auto"),
        ("cityscapes/", "bbox", "coco"), ("val/my/", "segm", "coco-masks"),
    ],
)  # fmt: skip
def test_what_the_metrics_of_mmdetection_3_give(tmp_path, suffix, prefix, kind, measure):
    """The keys of its CocoMetric: bbox_mAP, bbox_mAP_50, ..., after the metric's prefix."""

    def row(number, severity):
        ap = 0.4 if severity == 0 else 0.3 - 0.01 * number - 0.02 * severity
        names = {"mAP": ap, "mAP_50": 0.6, "mAP_75": 0.2, "mAP_s": -1.0, "mAP_m": 0.1, "mAP_l": 0.5}
        other = "segm" if kind == "bbox" else "bbox"
        return OrderedDict(
            {f"{prefix}{kind}_{name}": np.float64(value) for name, value in names.items()}
            | {f"{prefix}{other}_mAP": 0.9, f"{prefix}cat_precision": 0.3}
        )

    path = written(tmp_path / f"results{suffix}", robustness(row))
    run = bench.score(path, out=tmp_path / "run", measure=measure)
    model = run.scores.models[0]
    assert run.scores.measure.name == "AP"
    assert model.summary["clean"].value == pytest.approx(0.4)
    assert model.summary["mean"].value == pytest.approx(0.3 - 0.01 * 7 - 0.02 * 3)
    assert model.detail["sizes"]["APm"] == {"clean": 0.1, "mean": 0.1}
    assert model.detail["sizes"]["APs"]["clean"] is None


@pytest.mark.parametrize(
    ("entry", "name", "value"),
    [
        ({"pascal_voc/mAP": 0.7, "pascal_voc/AP50": 0.7}, "AP50", 0.7),
        ({"pascal_voc/mAP": 0.70049, "pascal_voc/AP50": 0.7}, "AP50", 0.70049),
        ({"pascal_voc/mAP": 0.5, "pascal_voc/AP50": 0.7, "pascal_voc/AP75": 0.3}, "AP50", 0.7),
        ({"pascal_voc/mAP": np.float32(0.5)}, "AP50", 0.5),
        ({"mAP": 0.7, "AP50": 0.7}, "AP50", 0.7),
        ({"openimages/AP50": 0.7}, "AP50", 0.7),
        ({"cityscapes/mAP": 0.3, "cityscapes/AP@50": 0.6}, "AP", 0.3),
        ({"lvis/bbox_AP": 0.3, "lvis/bbox_AP50": 0.6}, "AP", 0.3),
    ],
)
def test_other_metrics_of_mmdetection_3(tmp_path, entry, name, value):
    plain = {key: float(one) for key, one in entry.items()}
    for path, table in (("a.json", {"fog": {"3": plain}}), ("a.pkl", {"fog": {3: entry}})):
        called, cells = read_table(written(tmp_path / path, table))
        assert called == name
        assert cells[Cell("fog", 3)].replicates[0] == pytest.approx(value)


RAW = [
    [[np.zeros((2, 5), np.float32), np.zeros((0, 5), np.float32)]],
    [{"img_id": 3, "pred_instances": {"bboxes": np.zeros((1, 4))}}],
    {"fog": {3: [np.zeros((2, 5))]}},
    [[[0.5] * 5] * 10] + [[[float(at)] * 5] for at in range(60_000)],
]


@pytest.mark.parametrize("value", RAW)
def test_the_detections_themselves_are_no_table(tmp_path, value):
    path = written(tmp_path / "out.pkl", value)
    with pytest.raises(
        InputError, match=r"^out\.pkl: .*look like the detections.*out_results\.pkl"
    ):
        bench.score(path, out=tmp_path / "run")


def test_tensors_of_detections_are_no_table(tmp_path):
    torch = pytest.importorskip("torch")
    path = written(tmp_path / "out.pkl", [{"pred_instances": {"scores": torch.zeros(3)}}])
    with pytest.raises(InputError, match=r"look like the detections themselves"):
        bench.score(path, out=tmp_path / "run")
    (tmp_path / "a.json").write_text('[{"image_id": 3, "bbox": [1, 2, 3, 4]}]')
    with pytest.raises(InputError, match=r"give the folder that holds a file for each cell"):
        bench.score(tmp_path / "a.json", out=tmp_path / "run")


def test_a_table_whose_parts_repeat_each_other_is_refused_at_once(tmp_path):
    bomb = ["ha"] * 10
    for _ in range(40):
        bomb = [bomb] * 10
    path = written(tmp_path / "a.pkl", {"fog": {3: bomb}})
    with pytest.raises(BrokenFileError, match="its repeated parts stand for more than"):
        bench.score(path, out=tmp_path / "run")


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_a_plain_table_gives_the_same(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps({"clean": {"0": 0.5}, "fog": {"1": 0.4, "3": 0.2}}))
    else:
        path.write_text("corruption,severity,AP\nclean,0,0.5\nfog,1,0.4\nfog,3,0.2\n")
    name, cells = read_table(path)
    assert name == "AP"
    assert {str(cell): one.replicates[0] for cell, one in cells.items()} == {
        "clean": 0.5, "fog-1": 0.4, "fog-3": 0.2,
    }  # fmt: skip
    run = bench.score(path, out=tmp_path / "run")
    assert run.scores.models[0].summary["rpc"].value == pytest.approx(0.6)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps({"fog": {0: Harmful()}}))
    with pytest.raises(BrokenFileError, match=r"posix\.system, which is not allowed"):
        bench.score(path, out=tmp_path / "run")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"fog": {"1": 36.3}}, "not per cent, got 36.3"),
        ({"fog": {"7": 0.3}}, "severities from 0"),
        ({"fog": 0.3}, "corruption to severity to P"),
        ({"fog": {"0": 0.3, "1": 0.2}, "snow": {"0": 0.4}}, "clean cell occurs twice"),
        ({"fog": {"1": 0.3}, "snow": {"1": [{"ap": 0.3}]}}, "one measure, got AP and AP50"),
        ([1, 2], "expected a table of results"),
        ({"fog": {"2.5": 0.3}}, "severities from 0"),
        (
            {"fog": {"1": {"coco/segm_mAP": 0.3}}},
            r"got coco/segm_mAP. Masks \(segm\) are read with",
        ),
        ({"fog": {"1": {"coco/bbox_mAP": 36.3}}}, "not per cent, got 36.3"),
        ({"../x": {"1": 0.3}}, "cannot name a corruption"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, table, message):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=message):
        bench.score(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ground_truth_in_place_of_results_says_so(annotations, tmp_path):
    with pytest.raises(InputError, match=r"This is ground truth: give it as data \(--data\)"):
        bench.score(annotations, out=tmp_path / "run")


def test_a_table_beside_result_files_changes_nothing(predictions, annotations, tmp_path):
    (predictions / "summary.csv").write_text("a,b\n1,2\n")
    run = bench.score(predictions, annotations, out=tmp_path / "run", workers=0)
    assert run.kind == "detection"


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ("fog,1,0.3\n\nfog,2\n", "line 4: expected 3 cells, .*got 2"),
        ("fog,1,0.3\n\n\nfog,1,0.2\n", "line 5: fog, 1 occurs twice"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, rows, place):
    path = tmp_path / "table.csv"
    path.write_text(f"corruption,severity,P\n{rows}")
    with pytest.raises(InputError, match=rf"table\.csv, {place}"):
        bench.score(path, out=tmp_path / "run")


# ---------------------------------------------------------------- the command line


def test_the_command_line_scores(predictions, annotations, tmp_path):
    result = CliRunner().invoke(
        app,
        ["score", "-p", str(predictions), "-d", str(annotations), "-o", str(tmp_path / "run"),
         "-w", "0", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert json.loads(result.stdout) == scores


def test_several_predictions_need_names(predictions, annotations, tmp_path):
    result = CliRunner().invoke(
        app,
        ["score", "-p", str(predictions), "-p", str(predictions), "-d", str(annotations), "-o",
         str(tmp_path / "run")],
    )  # fmt: skip
    assert "NAME=PATH" in str(result.exception)


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", ""])
def test_a_detector_is_called_what_can_name_a_folder(predictions, annotations, tmp_path, name):
    with pytest.raises(InputError, match="A model cannot be called"):
        bench.score({name: predictions}, annotations, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_of_rows_without_cells_is_none(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"fog": {}}')
    with pytest.raises(InputError, match="expected a table of results"):
        bench.score(path, out=tmp_path / "run")
