"""Boxes beside images in tars and tables, as the detection data of the Hugging Face hub have them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof import bench, cli
from shiftproof.data import PackedDetectionData, open_data, open_detection_data
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.models import Detector
from shiftproof.types import Detections
from support.coloured_images import colours, png, write_tar

SIZE = (40, 60)
PICTURES = [png(colour, SIZE) for colour in colours(3)]
OBJECTS = [
    {"bbox": [[1.0, 2.0, 30.0, 20.0], [5.5, 5.0, 4.0, 3.0]], "category": [1, 0]},
    {"bbox": [], "category": []},
    {"bbox": [[10.0, 10.0, 20.0, 20.0]], "category": [1]},
]
NAMES = ["helmet", "mask"]


def tar_of(path, values):
    members = []
    for at, value in enumerate(values):
        members.append((f"{at}.png", PICTURES[at]))
        if value is not None:
            members.append((f"{at}.json", json.dumps(value).encode()))
    return write_tar(path, members)


def parquet_of(path, objects, *, feature=None, **columns):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": data, "path": None} for data in PICTURES[: len(objects)]], kind)
    features = {"image": {"_type": "Image"}, **({"objects": feature} if feature else {})}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"image": images, "objects": objects, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def positions(data):
    return [data.objects[sample.id].positions.tolist() for sample in data.samples]


def labels(data):
    return [
        [data.classes.names[label] for label in data.objects[sample.id].labels]
        for sample in data.samples
    ]


WRITTEN = [value["bbox"] for value in OBJECTS]
CALLED = [[NAMES[label] for label in value["category"]] for value in OBJECTS]


def test_what_datasets_writes(tmp_path):
    datasets = pytest.importorskip("datasets")
    inner = {
        "bbox": datasets.Sequence(datasets.Value("float32"), length=4),
        "category": datasets.ClassLabel(names=NAMES),
    }
    features = datasets.Features(
        {
            "image_id": datasets.Value("int64"),
            "image": datasets.Image(),
            "width": datasets.Value("int32"),
            "height": datasets.Value("int32"),
            "objects": datasets.Sequence(inner),
        }
    )
    rows = {
        "image_id": [7, 5, 9],
        "image": [{"bytes": data, "path": None} for data in PICTURES],
        "width": [SIZE[1]] * 3,
        "height": [SIZE[0]] * 3,
        "objects": OBJECTS,
    }
    whole = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": whole}).save_to_disk(tmp_path / "saved")
    (tmp_path / "hub").mkdir()
    whole.to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    opened = [open_detection_data(tmp_path / name) for name in ("saved", "hub")]
    for data in opened:
        assert type(data) is PackedDetectionData
        assert (positions(data), labels(data)) == (WRITTEN, CALLED)
        assert data.image_ids == {f"train/{row:08}": each for row, each in enumerate((7, 5, 9))}
        assert not data.faults
        assert data.read(data.samples[1]).shape == (*SIZE, 3)
    assert opened[0].content_fingerprints() == opened[1].content_fingerprints()
    # The photographs alone, with the same ids.
    ids = [sample.id for sample in opened[0].samples]
    assert [s.id for s in open_data(tmp_path / "saved", classes=None).samples] == ids


def as_dicts(value):
    pairs = zip(value["bbox"], value["category"], strict=True)
    return [{"bbox": box, "category_id": label, "iscrowd": 0} for box, label in pairs]


@pytest.mark.parametrize("form", ["lists", "dicts", "names", "annotations"])
def test_boxes_in_the_json_of_samples(tmp_path, form):
    values = {
        "lists": [{"objects": value} for value in OBJECTS],
        "dicts": [{"objects": as_dicts(value)} for value in OBJECTS],
        "annotations": [{"annotations": as_dicts(value), "image_id": 3} for value in OBJECTS],
        "names": [
            {"objects": {"bbox": value["bbox"], "label": called}}
            for value, called in zip(OBJECTS, CALLED, strict=True)
        ],
    }[form]
    tar_of(tmp_path / "0.tar", values)
    for source in (tmp_path, f"file://{tmp_path}/0.tar"):
        data = open_detection_data(source)
        assert positions(data) == WRITTEN
        numbers = [[str(label) for label in value["category"]] for value in OBJECTS]
        assert labels(data) == (CALLED if form == "names" else numbers)
        assert [sample.id for sample in data.samples] == [f"0.tar/{at}.png" for at in range(3)]
        first = data.objects["0.tar/0.png"]
        assert (first.width, first.height) == (SIZE[1], SIZE[0])
        assert list(data.image_ids.values()) == [1, 2, 3]


def test_areas_and_crowds_are_taken_over(tmp_path):
    value = {
        "bbox": [[1, 2, 3, 4]] * 2,
        "category": ["a", "b"],
        "area": [5, None],
        "iscrowd": [1, 0],
    }
    data = open_detection_data(tar_of(tmp_path / "0.tar", [{"objects": value}]))
    found = data.objects["0.tar/0.png"]
    assert (found.areas.tolist(), found.crowd.tolist()) == ([5.0, 12.0], [True, False])


def test_an_image_of_which_nothing_is_stated_is_a_fault(tmp_path):
    data = open_detection_data(tar_of(tmp_path / "0.tar", [{"objects": OBJECTS[0]}, None]))
    assert [str(fault).split(":")[0] for fault in data.faults] == ["0.tar/1.png"]
    assert data.fault_counts() == {"no annotations": 1}


def test_corners_have_to_be_named_as_such(tmp_path):
    corners = [{"bbox": [[10, 5, 58, 39], [30, 20, 59, 40]], "category": [0, 1]}]
    path = parquet_of(tmp_path / "a.parquet", corners)
    with pytest.raises(InputError, match=r"2 of 2 boxes leave .*--box-format xyxy"):
        open_detection_data(path)
    data = open_detection_data(path, box_format="xyxy")
    assert positions(data) == [[[10, 5, 48, 34], [30, 20, 29, 20]]]
    with pytest.raises(UnknownNameError, match="Did you mean 'xyxy'"):
        open_detection_data(path, box_format="xyxz")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"caption": "x"}, "has no boxes: expected objects or annotations"),
        ({"objects": 7}, "expected objects as lists of bbox and category, got 7"),
        ({"objects": {"bbox": [[1, 2, 3, 4]], "category": []}}, "got 1 of bbox, 0 of category"),
        ({"objects": {"bbox": [[1, 2, 3, 4]]}}, "object 1: expected a category, .* got None"),
        ({"objects": [{"bbox": [1, 2, 3, 4], "category": 1.5}]}, "expected a category, .* 1.5"),
        ({"objects": [{"bbox": [1, 2, 3, 4], "category": -1}]}, "expected a category, .* -1"),
        (
            {"objects": {"bbox": [[1, 2, 3, 4]] * 2, "category": ["a", 1]}},
            "all names or all numbers",
        ),
    ],
)
def test_objects_that_cannot_be_used_are_one_sentence(tmp_path, value, says):
    tar = tar_of(tmp_path / "0.tar", [value])
    with pytest.raises((InputError, BrokenFileError), match=says):
        open_detection_data(tar)


def test_a_category_beyond_the_classes_of_the_column(tmp_path):
    feature = {"feature": {"category": {"_type": "ClassLabel", "names": NAMES}}, "_type": "List"}
    path = parquet_of(
        tmp_path / "a.parquet", [{"bbox": [[1, 2, 3, 4]], "category": [2]}], feature=feature
    )
    with pytest.raises(InputError, match="the category 2 is none of 2 classes"):
        open_detection_data(path)


@pytest.mark.parametrize("box", [None, "x", [1, 2, 3], [1, 2, "x", 4], [1, 2, float("inf"), 4]])
def test_boxes_that_are_none_are_faults(tmp_path, box):
    value = {"objects": [{"bbox": box, "category": 0}, {"bbox": [1, 2, 3, 4], "category": 0}]}
    data = open_detection_data(tar_of(tmp_path / "0.tar", [value]))
    assert positions(data) == [[[1, 2, 3, 4]]]
    assert len(data.faults) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "(no bbox)"),
        ({"segmentation": [[1, 2, 9, 2, 9, 9]]}, "no bbox; only COCO's files have"),
    ],
)
def test_an_object_without_a_box_says_what_to_write(tmp_path, fields, says):
    boxed = {"bbox": [1, 2, 3, 4], "category": 0}
    path = tar_of(tmp_path / "a.tar", [{"objects": [{"category": 0, **fields}, boxed]}])
    data = open_detection_data(path)
    assert len(data.objects[data.samples[0].id]) == 1
    (fault,) = (one for one in data.faults if not one.kept)
    assert says in str(fault)


def test_a_box_format_has_no_effect_on_data_that_say_it_themselves(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(PICTURES[0])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match="a box format has no effect"):
        open_detection_data(tmp_path, box_format="xywh")


def test_detectors_are_measured_on_them(tmp_path):
    tar_of(tmp_path / "0.tar", [{"objects": value} for value in OBJECTS])
    known = {
        tuple(colour): value for colour, value in zip(colours(3).tolist(), OBJECTS, strict=True)
    }

    def knows_clean_images(images):
        found = []
        for image in images:
            value = known.get(tuple(image[0, 0].tolist()), OBJECTS[1])
            boxes = np.array(value["bbox"]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            found.append(Detections(boxes, np.ones(len(boxes)), np.array(value["category"], int)))
        return found

    detector = Detector(knows_clean_images, ["0", "1"], name="known")
    data = open_detection_data(tmp_path)
    run = bench.run(
        detector, data, task=bench.Detection(), corruptions=["brightness"], severities=[5],
        out=tmp_path / "run", workers=0,
    )  # fmt: skip
    tables = json.dumps(json.loads((run.folder.path / "scores.json").read_text()))
    assert '"clean": 1.0, "mean": 0.0, "name": "0"' in tables
    assert '"clean": 1.0, "mean": 0.0, "name": "1"' in tables


def test_detect_says_what_is_lacking(tmp_path, capsys):
    tar_of(tmp_path / "0.tar", [None])
    command = ["detect", "-m", "demo", "-d", str(tmp_path / "0.tar"), "-o", str(tmp_path / "run")]
    assert cli.run(command) == 2
    assert "has no boxes" in capsys.readouterr().err
