"""Zero-shot and Hugging Face models from the command line."""

import json

import numpy as np
import pytest

from shiftproof.cli import run as run_command
from support.detection_trees import voc_tree
from support.image_text import write_owl
from support.tiny import write_photos


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", per_class=2)


@pytest.fixture
def names(tmp_path):
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    return tmp_path / "names.txt"


def bench(model, photos, out, *more):
    return run_command(
        ["bench", "--model", str(model), "--data", str(photos), "--out", str(out),
         "--corruptions", "brightness", "--severities", "1", "--workers", "0", *map(str, more)]
    )  # fmt: skip


@pytest.mark.parametrize("model", ["transformers:{}/siglip", "open_clip:local-dir:{}/open_clip"])
def test_a_zero_shot_model_is_measured_and_its_sentences_kept(
    image_text_models, photos, names, tmp_path, model, capsys
):
    spec = model.format(image_text_models)
    given = ("--classes", names, "--templates", "simple", "--adapt", "rpl:lr=0.01")
    assert bench(spec, photos, tmp_path / "run", *given) == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    prompts = settings["models"]["source"]["prompts"]
    assert (prompts["classes"], prompts["templates"]) == (3, 7)
    kept = np.load(tmp_path / "run" / "prompts" / f"{prompts['vectors']}.npy")
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, rtol=1e-5)
    assert "7 templates, such as 'itap of a red.'" in capsys.readouterr().err
    (tmp_path / "run" / "scores.json").unlink()
    assert bench(spec, photos, tmp_path / "run", *given) == 0
    other = ("--classes", names, "--templates", "a {}.", "--adapt", "rpl:lr=0.01")
    assert bench(spec, photos, tmp_path / "run", *other) == 2
    assert "prompts" in capsys.readouterr().err


def test_bad_input_is_one_sentence(image_text_models, photos, names, tmp_path, capsys):
    clip = f"transformers:{image_text_models}/clip"
    twice = tmp_path / "twice.txt"
    twice.write_text("red\ngreen\nred\n")
    for model, more, words in (
        (clip, ("--classes", names, "--templates", "a photo"), "a photo"),
        (clip, ("--classes", twice), "both called 'red'"),
        (f"transformers:{tmp_path}/none", (), "found none"),
        (f"transformers:{image_text_models}/vit", ("--templates", "a {}."), "takes no sentences"),
        ("demo", ("--templates", "a {}."), "option of transformers, open_clip models"),
    ):
        assert bench(model, photos, tmp_path / "run", *more) == 2
        output = " ".join(capsys.readouterr().err.split())
        assert words in output
        assert "Traceback" not in output
        assert not (tmp_path / "run").exists()


def test_texts_are_embedded(image_text_models, tmp_path, capsys):
    captions = tmp_path / "captions.csv"
    captions.write_text("caption\nred cat\ngreen dog\n")
    clip = f"transformers:{image_text_models}/clip"
    arguments = ["embed", "--texts", str(captions), "--model", clip, "--device", "cpu", "--out"]
    assert run_command([*arguments, str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert run_command([*arguments, str(tmp_path / "out"), "--data", "demo"]) == 2
    assert "either --data" in capsys.readouterr().err
    assert run_command(["embed", "--texts", str(captions), "--out", str(tmp_path / "other")]) == 2
    assert "'demo' has no text tower" in " ".join(capsys.readouterr().err.split())


def evaluate(photos, out, *more):
    return run_command(
        ["evaluate", "--data", f"mine={photos}", "--out", str(out), "--workers", "0",
         *map(str, more)]
    )  # fmt: skip


def test_two_checkpoints_are_evaluated(image_text_models, photos, names, tmp_path, capsys):
    clip = f"transformers:{image_text_models}/clip"
    other = f"open_clip:local-dir:{image_text_models}/open_clip"
    given = ("--model", clip, "--model", other, "--classes", names, "--templates", "simple")
    assert evaluate(photos, tmp_path / "run", *given, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in output["models"]] == ["clip", "open_clip"]
    assert list(output["models"][0]["sets"]) == ["mine"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert len(list((tmp_path / "run" / "prompts").glob("*.npy"))) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--label-set", "yours=imagenet-r"), "Unknown test set 'yours'"),
        (("--label-set", "mine=imagenet-x"), "Unknown label set 'imagenet-x'"),
        (("--audit", "none"), "holds no run"),
        (("--data", "mine=elsewhere"), "mine is given twice"),
        (("--data", "clean={photos}"), "cannot be called 'clean'"),
    ],
)
def test_what_evaluate_refuses(photos, names, image_text_models, tmp_path, capsys, more, words):
    clip = f"transformers:{image_text_models}/clip"
    given = [word.format(photos=photos) for word in more]
    code = evaluate(
        photos,
        tmp_path / "run",
        "--model",
        clip,
        "--classes",
        names,
        "--templates",
        "a {}.",
        *given,
    )
    assert code == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_detector_is_asked_for_the_classes_of_the_data(tmp_path, capsys):
    pytest.importorskip("transformers", exc_type=ImportError)
    voc_tree(tmp_path / "voc")
    owl = write_owl(tmp_path / "owl")
    arguments = ["detect", "--model", f"transformers:{owl}", "--data", str(tmp_path / "voc")]
    grid = ["--corruptions", "brightness", "--severities", "1", "--workers", "0"]
    assert run_command([*arguments, *grid, "--out", str(tmp_path / "run")]) == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["classes"]["source"]["missing"] == []
    assert "asked in words" in capsys.readouterr().err
    (tmp_path / "dogs.txt").write_text("dog\n")
    asked = ["--classes", str(tmp_path / "dogs.txt"), "--out", str(tmp_path / "dogs")]
    assert run_command([*arguments, *grid, *asked]) == 0
    settings = json.loads((tmp_path / "dogs" / "run.json").read_text())["settings"]
    assert len(settings["classes"]["source"]["missing"]) == 19
