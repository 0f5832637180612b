"""What a run hands to other tools: a model card's metadata, and samples for FiftyOne."""

import json
import shutil

import pytest
import yaml
from huggingface_hub import ModelCardData

import shiftproof
from shiftproof import Segmenter, bench, cli
from shiftproof.data import open_segmentation_data
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.runs import load_run
from support import finished_runs
from support.label_map_trees import NAMES, nearest_color, write_folders
from support.simulated_runs import CLASSES, GRID, draw_tables, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(
        write_run(tmp_path_factory.mktemp("exports") / "run", draw_tables(40, cells=GRID[:2]))
    )


def test_a_model_card_reads_the_metadata(run, capsys):
    assert cli.run(["report", str(run.path), "--model-index"]) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert content == {"model-index": [run.model_index()]}
    card = ModelCardData(**content)
    assert card.model_name == "source"
    found = {
        (one.dataset_config, one.metric_type, one.metric_name): one for one in card.eval_results
    }
    model = run.scores.models[0]
    mean = found["corrupted", "mean", "Error under corruption"]
    assert mean.metric_value == model.summary["mean"].value
    assert mean.task_type == "image-classification"
    assert mean.metric_args == {
        "low": model.summary["mean"].low,
        "high": model.summary["mean"].high,
    }
    assert mean.dataset_args["severities"] == [1, 3]
    assert found["clean", "clean", "Clean error"].metric_value == model.summary["clean"].value
    assert found["corrupted", "error", "error, fog"]


def test_a_model_card_of_another_name_and_model(run):
    assert run.model_index("mine/net", model="BN")["name"] == "mine/net"
    with pytest.raises(UnknownNameError, match="model of the run"):
        run.model_index(model="nobody")


def test_samples_have_the_predictions_of_the_records(run, tmp_path):
    content = json.loads(json.dumps(run.to_samples(model="BN", images=tmp_path)))
    assert content["cells"] == ["clean", "fog-1", "fog-3"]
    assert content["classes"] == list(CLASSES.names)
    record = run.cell("BN", "fog", 3)
    for at, sample in enumerate(content["samples"]):
        answer = sample["predictions"]["fog-3"]
        assert sample["filepath"] == str(tmp_path / record.ids[at])
        assert sample["truth"]["label"] == CLASSES.names[record.target[at]]
        assert answer["label"] == CLASSES.names[record.prediction[at]]
        assert answer["correct"] == (record.target[at] == record.prediction[at])


def test_samples_of_detectors_have_correct_and_wrong_boxes(tmp_path):
    finished_runs.run_detector(tmp_path, tmp_path / "run")
    content = load_run(tmp_path / "run").to_samples(images=tmp_path / "blocks" / "images")
    clean = [one["predictions"]["clean"] for one in content["samples"]]
    assert all(box["correct"] for boxes in clean for box in boxes)  # P is 1 there
    noisy = [one["predictions"]["gaussian_noise-5"] for one in content["samples"]]
    assert any(not box["correct"] for boxes in noisy for box in boxes)
    for sample in content["samples"]:
        for box in sample["truth"]:
            assert all(0 <= value <= 1 for value in box["bounding_box"])


def test_samples_of_segmenters_have_their_classes_and_shares(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data", 3), classes=list(NAMES))
    run = bench.run(
        Segmenter(nearest_color, NAMES), data, out=tmp_path / "run", corruptions=["contrast"],
        severities=[1], workers=0, show_progress=False,
    )  # fmt: skip
    content = run.to_samples()
    assert content["classes"] == list(NAMES)
    clean = [one["predictions"]["clean"]["pixel_accuracy"] for one in content["samples"]]
    assert clean == [1.0] * 3  # the colors are the classes
    assert all(one["truth"] is None for one in content["samples"])


def test_samples_of_a_run_without_its_classes_are_refused(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "classes.json").write_text('{"title": "x", "names": "cat"}')
    with pytest.raises(BrokenFileError, match=r"classes\.json: expected a list at names"):
        load_run(copy).to_samples()
    (copy / "classes.json").unlink()
    with pytest.raises(BrokenFileError, match=r"classes\.json"):
        load_run(copy).to_samples()


def test_samples_of_a_custom_task_are_refused(tmp_path):
    finished_runs.run_own_task(tmp_path / "run")
    with pytest.raises(InputError, match="no form that FiftyOne knows"):
        shiftproof.load_run(tmp_path / "run").to_samples()


def test_samples_become_a_fiftyone_dataset(run, tmp_path):
    fiftyone = pytest.importorskip("fiftyone")
    dataset = run.to_fiftyone(images=tmp_path)
    assert len(dataset) == 40
    assert isinstance(dataset.first()["fog_3"], fiftyone.Classification)
    dataset.delete()
