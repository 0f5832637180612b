"""``shiftproof detect``: what it takes, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from shiftproof.cli import run
from shiftproof.cli.grid_options import make_short_name, name_specs
from shiftproof.errors import InputError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("detect", ["--unlabeled"], "Option '--unlabeled' requires an argument."),
        ("detect", ["--label-set", "imagenet-r"], "No such option: --label-set"),
        ("bench", ["--measure", "voc"], "No such option: --measure"),
        ("bench", ["--corrupted", "copies"], "No such option: --corrupted"),
        ("bench", ["--model", "demo"], "Two models have the name 'demo'"),
        ("bench", ["--task", "detection"], "No such option: --task"),
    ],
)
def test_options_of_the_other_verb_are_refused(verb, arguments, message, tmp_path, capsys):
    code = run(
        [verb, "--model", "demo", "--data", "demo", "--out", str(tmp_path / "run"), *arguments]
    )
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("torchvision:retinanet_resnet50_fpn@COCO_V1", "retinanet_resnet50_fpn-COCO_V1"),
        ("onnx:models/fastest.onnx?decode=fastestdet&classes=coco.names", "fastest"),
        ("transformers:facebook/detr-resnet-50", "detr-resnet-50"),
        ("ultralytics:yolov8n.pt", "yolov8n"),
        ("onnx:models/source.onnx?decode=fastestdet", "source-model"),
    ],
)
def test_several_detectors_are_called_by_their_own_part_of_the_spec(spec, name):
    assert make_short_name(spec) == name
    assert name_specs([spec]) == {"source": spec}
    assert name_specs([spec, "onnx:other.onnx"]) == {name: spec, "other": "onnx:other.onnx"}
    with pytest.raises(InputError, match="Two models have the name"):
        name_specs([spec, spec])


@pytest.mark.parametrize(
    ("models", "name"),
    [
        ({"source": {}}, "source"),
        ({"a": {}, "b": {}}, "yolov8n"),
        ({"source": {}, "b": {}}, "yolov8n"),
    ],
)
def test_one_that_is_added_to_several_has_its_own_name(tmp_path, models, name):
    info = {"kind": "detection", "settings": {"models": models}}
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert name_specs(["ultralytics:yolov8n.pt"], tmp_path) == {name: "ultralytics:yolov8n.pt"}
    assert list(name_specs(["ultralytics:yolov8n.pt"], tmp_path / "new")) == ["source"]


@pytest.mark.skipif(
    not (DATA / "fastestdet/fastestdet.onnx").is_file(),
    reason="the detector and its photographs are not beside the project (shared/data)",
)
def test_a_detector_is_measured_from_the_command_line(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    (tmp_path / "voc/JPEGImages").mkdir(parents=True)
    (tmp_path / "voc/Annotations").mkdir()
    for path in sorted((DATA / "voc100/pascal_voc_xml").iterdir())[:4]:
        shutil.copy(path, tmp_path / "voc/Annotations")
        shutil.copy(DATA / f"voc100/images/{path.stem}.jpg", tmp_path / "voc/JPEGImages")
    model = (
        f"onnx:{DATA}/fastestdet/fastestdet.onnx?decode=fastestdet"
        f"&classes={DATA}/fastestdet/coco.names"
    )
    code = run(
        ["detect", "-m", model, "-d", str(tmp_path / "voc"), "-o",
         str(tmp_path / "run"), "-c", "fog", "-s", "3", "-w", "0"]
    )  # fmt: skip
    output = capsys.readouterr()
    assert code == 0, output.err
    assert "Fog" in output.out
    assert (tmp_path / "run/report.html").is_file()
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert scores["images"]["total"] == 4
