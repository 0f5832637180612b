"""The first hour of use: wrong paths, misspelled names, failed commands run again."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from shiftproof import corrupt
from shiftproof.cli import doctor
from shiftproof.cli.models import OPTIONS, list_tables
from shiftproof.cli.outcome import warn_if_near_chance
from shiftproof.compute import progress as display
from shiftproof.errors import InputError
from support.command import run
from support.detection_trees import coco_tree


def write_answers(path, count, classes=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.png" for number in range(count)]
    logits = np.eye(classes, dtype=np.float32)[np.arange(count) % classes]
    np.savez(path, logits=logits, images=names, labels=np.arange(count) % classes)


def test_a_table_whose_files_are_all_missing_is_bad_input(tmp_path, capsys):
    table = tmp_path / "photos.csv"
    table.write_text("path,label\nnowhere/a.png,tench\nnowhere/b.png,goldfish\n")
    out = tmp_path / "run"
    assert run("bench", "-m", "demo", "-d", table, "-o", out, "-c", "fog", "-s", "1") == 2
    assert (
        "None of the images of photos.csv can be read. The first of 2: nowhere/a.png"
        in " ".join(capsys.readouterr().err.split())
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--coverage", "0.5"], "--coverage has an effect only with --calibrate."),
        (["--adapt", "batchnorm,rpl"], 'separated by spaces, such as "batchnorm rpl"'),
    ],
)
def test_options_that_would_do_nothing_are_bad_input(words, says, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("bench", "-m", "demo", "-d", "demo", "-o", out, "-c", "fog", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_score_that_failed_leaves_the_folder_free(tmp_path, capsys):
    results = tmp_path / "results"
    write_answers(results / "clean.npz", 8)
    write_answers(results / "fog" / "1.npz", 6)
    words = ("score", "-p", results, "-o", tmp_path / "run", "-w", 0)
    (tmp_path / "run").mkdir()
    assert run(*words) == 2
    capsys.readouterr()
    assert list((tmp_path / "run").iterdir()) == []
    write_answers(results / "fog" / "1.npz", 8)
    assert run(*words) == 0


def test_detections_that_failed_leave_the_folder_free(tmp_path, capsys):
    annotations = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [2, 2, 9, 9],
                "area": 81,
                "iscrowd": 0,
            }
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(annotations))
    found = [{"image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "score": 0.9}]
    results = tmp_path / "results"
    results.mkdir()
    (results / "clean.json").write_text(json.dumps(found))
    (results / "fog-1.json").write_text("[{")
    words = ("score", "-p", results, "-d", tmp_path / "truth.json", "-o", tmp_path / "run", "-w", 0)
    assert run(*words) == 2
    assert not (tmp_path / "run").exists()
    (results / "fog-1.json").write_text(json.dumps(found))
    assert run(*words) == 0


def test_a_folder_that_looks_misspelt_and_grids_unlike_each_other_are_told(tmp_path, capsys):
    for name in ("a", "b"):
        write_answers(tmp_path / name / "clean.npz", 8)
        write_answers(tmp_path / name / "fgo" / "1.npz", 8)
    write_answers(tmp_path / "a" / "snow" / "2.npz", 8)
    assert run("score", "-p", f"a={tmp_path / 'a'}", "-p", f"b={tmp_path / 'b'}",
               "-o", tmp_path / "run", "-w", 0) == 0  # fmt: skip
    output = " ".join(capsys.readouterr().err.split())
    assert "If it is 'fog', rename its folder." in output
    assert "b has no answers for" in output
    assert "snow 2" in output or "snow-2" in output or "snow/2" in output


def test_models_prints_what_is_typed_unbroken_and_explains_every_option(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run("models") == 0
    output = capsys.readouterr().out
    words = set(output.split())
    taken = set()
    for entries, common in list_tables().values():
        for entry in entries.values():
            if example := getattr(entry, "example", None):
                assert example in words
                taken |= {*entry.options, *common}
    assert taken == set(OPTIONS)
    assert {"fastestdet", "yolov8", "yolov5", "boxes-scores-labels"} <= words


def test_a_clean_error_near_that_of_a_guess_is_doubted():
    def doubt(error, classes):
        clean = SimpleNamespace(value=error)
        scored = SimpleNamespace(of_clean=lambda measure: clean)
        return warn_if_near_chance("error", scored, {"count": classes})

    # 72 % of a guess's 80 % among 5 classes.
    assert "72.0% are wrong, near the 80.0% of a guess among 5 classes" in doubt(0.72, 5)
    assert doubt(0.60, 5) is None
    assert doubt(0.72, 1000) is None


@pytest.mark.parametrize("verb", ["bench", "breaking", "embed", "evaluate", "perturb", "probe"])
def test_missing_data_are_refused_before_a_model_is_loaded(verb, tmp_path, monkeypatch, capsys):
    def load(*_, **__):
        raise AssertionError("a model is loaded")

    for name in ("load_classifier", "load_encoder"):
        monkeypatch.setattr(f"shiftproof.models.{name}", load)
    gone = tmp_path / "gone"
    data = f"val={gone}" if verb == "evaluate" else gone
    assert run(verb, "-m", "demo", "-d", data, "-o", tmp_path / "out") == 2
    assert f"{gone} does not exist; expected a folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def nothing_loads(monkeypatch):
    """Fail if a model is loaded."""

    def load(*_, **__):
        raise AssertionError("a model is loaded")

    for name in ("classifier", "detector", "segmenter", "encoder", "text_encoder"):
        monkeypatch.setattr(f"shiftproof.models.load_{name}", load)


@pytest.mark.parametrize(
    ("verb", "words", "says"),
    [
        ("bench", ["-c", "fgo"], "Unknown corruption 'fgo'"),
        ("bench", ["-s", "1-9"], "severit"),
        ("bench", ["--class-map", "gone.csv"], "gone.csv"),
        ("bench", ["--adapt", "batchnrom"], "Unknown adapter 'batchnrom'"),
        ("bench", ["--adapt", "guard+rpl:lrr=1"], "Unknown option of rpl 'lrr'"),
        ("bench", ["--adapt", "rpl+ent"], "can stand before a plus"),
        ("bench", ["--adapt", "guard+actmad:clean=gone"], "found none in gone"),
        ("bench", ["--adapt", "router:experts=batchnorm+rpll"], "Unknown adapter 'rpll'"),
        ("bench", ["--adapt", "router:experts=guard+ent:lrr=1"], "Unknown option of ent 'lrr'"),
        ("bench", ["--protocol", "onlin"], "onlin"),
        ("bench", ["--calibrate", "gone"], "gone does not exist"),
        ("bench", ["--calibrate", "fraction=2"], "between 0 and 1"),
        ("bench", ["--clean", "gone"], "--clean gone: expected clean images"),
        ("bench", ["--dry-run", "--corrupt-on", "device"], "--dry-run corrupts image by image"),
        ("bench", ["--budget", "1min", "--corrupt-on", "device"], "--budget corrupts image by"),
        (
            "bench",
            ["--budget", "1min", "--worker", "0", "--of", "2"],
            "chooses the next images by earlier results",
        ),
        ("breaking", ["-c", "fgo"], "Unknown corruption 'fgo'"),
        ("breaking", ["--class-map", "gone.csv"], "gone.csv"),
        ("evaluate", ["--class-map", "gone.csv"], "gone.csv"),
        ("perturb", ["--perturbations", "zoom_blurr"], "Unknown perturbation 'zoom_blurr'"),
        ("probe", ["--factors", "cropp"], "Unknown factor 'cropp'"),
        ("probe", ["--split", "val"], "no parts to choose from"),
        ("embed", ["--split", "val"], "no parts to choose from"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_model_is_loaded(
    verb, words, says, nothing_loads, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = "val=demo" if verb == "evaluate" else "demo"
    assert run(verb, "-m", "demo", "-d", data, "-o", "out", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return the working directory, with a class folder of one image, an empty folder and a -C tree."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for place in ("photos/tench", "copies/fog/1/tench", "copies/fog/3/tench"):
        Path(place).mkdir(parents=True)
        Image.new("RGB", (8, 8), (200, 20, 20)).save(Path(place, "a.png"))
    return tmp_path


@pytest.mark.parametrize(
    ("data", "words", "says"),
    [
        ("photos", ["--split", "val"], "has no known splits"),
        ("photos", ["--root", "."], "not YOLO data, so a root has no effect"),
        ("photos", ["--images", "gone"], "gone is not a folder, and photos does not contain it"),
        ("empty", [], "empty holds no images"),
        ("photos/tench/a.png", [], "is an image; expected a folder of images"),
        ("photos", ["--clean", "photos"], "not a -C tree"),
        (
            "photos",
            ["--label-key", "cls"],
            "only tars, saved datasets and Parquet files have a label key",
        ),
        ("copies", [], "copies has no cell "),
        ("copies", ["-c", "fog", "-s", "1-3"], "copies has no cell fog-2. Choose what it has:"),
        ("copies", ["-c", "snow", "-s", "1"], "--corruptions fog --severities 1,3"),
        ("photos", ["--calibrate", "empty"], "empty holds no images"),
    ],
)
def test_data_are_refused_before_a_model_is_loaded(
    data, words, says, nothing_loads, photos, capsys
):
    assert run("bench", "-m", "demo", "-d", data, "-o", "out", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("verb", "data", "words", "says"),
    [
        ("breaking", "photos", ["--split", "val"], "has no known splits"),
        ("breaking", "photos", ["--images", "gone"], "gone is not a folder"),
        ("breaking", "empty", [], "empty holds no images"),
        ("breaking", "copies", [], "give the clean images"),
        ("perturb", "empty", [], "empty holds no images"),
        ("perturb", "copies", [], "holds only corrupted copies; expected clean images"),
        ("probe", "copies", [], "holds only corrupted copies; expected clean images"),
        ("probe", "photos", ["--root", "."], "a root has no effect"),
        ("probe", "photos", [], "Expected 10 images or more, got 1"),
        ("evaluate", "val=empty", [], "empty holds no images"),
        ("evaluate", "val=copies", [], "val: copies holds corrupted copies"),
        ("embed", "empty", [], "empty holds no images"),
        ("embed", "photos", ["--images", "gone"], "gone is not a folder"),
    ],
)
def test_data_of_other_verbs_are_refused_before_a_model_is_loaded(
    verb, data, words, says, nothing_loads, photos, capsys
):
    assert run(verb, "-m", "demo", "-d", data, "-o", "out", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "verb", ["bench", "breaking", "evaluate", "perturb", "probe", "embed", "detect", "segment"]
)
def test_folders_that_cannot_be_written_to_are_refused_before_a_model_is_loaded(
    verb, nothing_loads, photos, capsys
):
    Path("full").mkdir()
    Path("full", "notes.txt").write_text("x")
    data = "val=photos" if verb == "evaluate" else "photos"
    for out, says in (
        ("full", "full is not empty and holds no"),
        ("full/notes.txt", "full/notes.txt is a file; expected a folder"),
        (
            "full/notes.txt/run",
            "full/notes.txt is a file; expected a folder for full/notes.txt/run",
        ),
    ):
        assert run(verb, "-m", "demo", "-d", data, "-o", out) == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("number", ["0", "-3"])
@pytest.mark.parametrize("verb", ["bench", "breaking", "probe", "detect"])
def test_a_number_of_images_below_one_is_refused_at_once(
    verb, number, nothing_loads, photos, capsys
):
    assert run(verb, "-m", "demo", "-d", "photos", "-o", "out", f"--images={number}") == 2
    assert f"--images: expected 1 image or more, got {number}." in capsys.readouterr().err


def test_tilde_is_expanded_in_options_and_defaults(nothing_loads, photos, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(photos / "home"))
    assert run("bench", "-m", "demo", "--data=~/gone", "-o", "out") == 2
    assert f"{photos}/home/gone does not exist" in capsys.readouterr().err
    Path("shiftproof.toml").write_text('data = "~/missing"\n')
    assert run("bench", "-m", "demo", "-o", "out") == 2
    assert f"{photos}/home/missing does not exist" in capsys.readouterr().err
    assert run("evaluate", "-m", "demo", "-d", "val=~/gone", "-o", "out") == 2
    assert f"{photos}/home/gone does not exist" in capsys.readouterr().err


def test_unexpanded_patterns_name_the_folder(photos, capsys):
    for verb in ("corrupt", "bench"):
        words = ["photos/*/a.png", "out"] if verb == "corrupt" else ["-d", "photos/*/a.png"]
        words += ["-m", "demo", "-o", "out"] if verb == "bench" else []
        assert run(verb, *words) == 2
        assert "are not expanded: give the folder, photos." in capsys.readouterr().err


def test_broken_links_name_their_target(photos, capsys):
    Path("link").symlink_to("gone")
    for words in (("bench", "-m", "demo", "-d", "link", "-o", "out"), ("data", "link")):
        assert run(*words) == 2
        assert "It is a link to gone, which does not exist." in capsys.readouterr().err


def test_expanded_patterns_hint_at_the_folder(photos, capsys):
    for name in "bcd":
        Image.new("RGB", (8, 8)).save(Path("photos/tench", f"{name}.png"))
    paths = [str(path) for path in Path("photos/tench").iterdir()]
    assert run("corrupt", *paths, "out") == 2
    assert "give the folder" in capsys.readouterr().err
    assert run("bench", "-m", "demo", "-o", "out", "-d", *paths) == 2
    assert "give the folder" in capsys.readouterr().err
    assert run("corrupt", "photos", "out", "more") == 2
    assert "give the folder" not in capsys.readouterr().err


def test_class_folders_beside_annotations_are_left_to_the_model(nothing_loads, photos, capsys):
    # Whether all folders are called by classes is known from the model alone.
    Path("photos", "masks").mkdir()
    Image.new("L", (8, 8)).save(Path("photos", "masks", "a.png"))
    assert run("bench", "-m", "demo", "-d", "photos", "-o", "out") != 2
    assert "a model is loaded" in capsys.readouterr().err


LOUD = "def make():\n    raise AssertionError('a model is loaded')\n\nother = make\n"

WRONG_MODELS = [
    ("tim:resnet18", "Unknown source of models 'tim'"),
    ("python:loud:other?sise=3", "Unknown option 'sise'"),
    ("python:loud", "names no function"),
    ("python:loud:othr", "Unknown function of loud 'othr'. Did you mean 'other'?"),
    ("python:nowhere:other", "the module 'nowhere' cannot be imported"),
    ("onnx:gone.onnx", "gone.onnx: cannot be read"),
    ("transformers:./gone", "expected a folder, found none"),
    ("transformers:empty", "expected a folder with a config.json"),
    ("torchvision:resnet19", "Unknown torchvision model 'resnet19'"),
]


@pytest.mark.parametrize(("second", "says"), WRONG_MODELS)
@pytest.mark.parametrize("verb", ["bench", "breaking", "evaluate", "perturb", "probe"])
def test_a_wrong_second_model_is_seen_before_the_first_is_loaded(
    verb, second, says, photos, capsys
):
    Path("loud.py").write_text(LOUD)
    data = "val=photos" if verb == "evaluate" else "photos"
    assert run(verb, "-m", "python:loud:make", "-m", second, "-d", data, "-o", "out") == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("file:gone.pt", "A checkpoint needs its architecture"),
        ("file:gone.pt?arch=keras:resnet18", "Unknown library of architectures 'keras'"),
        ("file:gone.pt?arch=torchvision:resnet18", "gone.pt: cannot be read"),
        ("python:loud:other?classes=gone.txt", "gone.txt: "),
        ("demo:large", "The demo model takes no name"),
        ("python:loud:other?size=0", "size: expected whole numbers of pixels above 0, got 0"),
        ("python:loud:other?resize=8x0", "resize: expected whole numbers of pixels above 0"),
        ("python:loud:other?mean=1,2", "mean: expected 3 finite numbers"),
        ("python:loud:other?std=0,1,1", "std: expected numbers above 0"),
        ("python:loud:other?interpolation=cubic", "Did you mean 'bicubic'"),
        ("torchvision:resnet18@V9", "Unknown resnet18 weights 'V9'"),
    ],
)
def test_more_wrong_second_classifiers(second, says, photos, capsys):
    Path("loud.py").write_text(LOUD)
    words = ("-d", "photos", "-o", "out", "--compare")
    assert run("bench", "-m", "python:loud:make", "-m", second, *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_refused_command_runs_once_it_is_corrected(photos, capsys):
    Path("red.py").write_text(
        "import numpy as np\n\ndef make():\n    return lambda x: x.mean(axis=(2, 3)) * 9\n"
    )
    Path("names.txt").write_text("tench\ncow\nfox\n")
    words = ["bench", "-d", "photos", "-o", "out", "-c", "contrast", "-s", "1", "-w", "0"]
    words += ["--classes", "names.txt", "-m", "python:red:make?size=8"]
    for wrong in (["-m", "onnx:gone.onnx"], ["--split", "val"], ["--adapt", "rpll"]):
        assert run(*words, *wrong) == 2
        assert not Path("out").exists()
    capsys.readouterr()
    assert run(*words) == 0
    assert "1 image, severity 1" in " ".join(capsys.readouterr().out.split())


def test_texts_that_are_missing_are_refused_before_a_model_is_loaded(
    nothing_loads, tmp_path, capsys
):
    gone = tmp_path / "gone.txt"
    assert run("embed", "-m", "demo", "--texts", gone, "-o", tmp_path / "out") == 2
    assert str(gone) in "".join(capsys.readouterr().err.split("\n"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-c", "fgo"], "Unknown corruption 'fgo'"),
        (["--class-map", "gone.csv"], "gone.csv"),
        (["--adapt", "batchnorm:priro=3"], "Unknown option of batchnorm 'priro'"),
        (["--adapt", "guard:widow=3+ent"], "Unknown option of guard 'widow'"),
        (["--adapt", "lame"], "learns from one answer per image"),
    ],
)
@pytest.mark.parametrize("verb", ["detect", "segment"])
def test_detectors_and_segmenters_are_loaded_last(
    verb, words, says, nothing_loads, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    assert run(verb, "-m", "onnx:a.onnx", "-d", "photos", "-o", "out", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--corrupted", "copies"], "has no cell gaussian_noise-1"),
        (["--corrupted", "copies", "-c", "fog", "-s", "2"], "has no cell fog-2"),
        (["--corrupted", "copies", "-c", "fog", "-s", "1"], "none of the 3 images of"),
        (["--corrupted", "empty"], "not a -C tree"),
        (["--unlabeled", "empty"], "empty holds no images"),
        (["--adapt", "actmad", "--calibrate", "empty"], "found none in empty"),
        (["--adapt", "guard+actmad:clean=gone"], "found none in gone"),
        (["--split", "test"], "no split 'test'"),
        (["--images", "gone"], "gone is not a folder"),
        (["-m", "torchvision:fasterrcnn"], "Unknown torchvision detector 'fasterrcnn'"),
        (["-m", "onnx:a.onnx?decode=yolov9x"], "Unknown decoding 'yolov9x'"),
        (["-m", "onnx:a.onnx?decode=yolov8"], "a.onnx: cannot be read"),
        (["-m", "onnx:a.onnx?decode=yolov8&size=0"], "size: expected whole numbers of pixels"),
        (["-m", "file:a.pt?arch=torchvision:retinanet_resnet50_fpn"], "a.pt: cannot be read"),
        (["-m", "torchvision:retinanet_resnet50_fpn?score=2"], "score: expected 0..1"),
    ],
)
def test_what_a_detector_cannot_use_is_refused_before_one_is_loaded(words, says, photos, capsys):
    Path("loud.py").write_text(LOUD)
    coco_tree(Path("coco"))
    assert run("detect", "-m", "python:loud:make", "-d", "coco", "-o", "out", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--corrupted", "copies"], "has no cell gaussian_noise-1"),
        (["--corrupted", "copies", "-c", "fog", "-s", "1"], "none of the 1 image of"),
        (["--split", "nowhere"], "nowhere"),
        (["-m", "torchvision:fcn"], "Unknown torchvision segmentation network 'fcn'"),
        (["-m", "onnx:a.onnx"], "a.onnx: cannot be read"),
        (["-m", "torchvision:fcn_resnet50?weights=a.pt"], "a.pt: cannot be read"),
        (["-m", "torchvision:fcn_resnet50?std=1,1"], "std: expected three numbers"),
        (["-m", "torchvision:fcn_resnet50?mean=nan,1,1"], "mean: expected three numbers"),
        (["-m", "onnx:a.onnx?window=0"], "window: expected whole numbers of pixels"),
        (["-m", "python:loud:other?classes=a.txt"], "a.txt"),
    ],
)
def test_what_a_segmenter_cannot_use_is_refused_before_one_is_loaded(words, says, photos, capsys):
    Path("loud.py").write_text(LOUD)
    for folder in ("images/validation", "annotations/validation"):
        Path("ade", folder).mkdir(parents=True)
        Image.new("L", (8, 8), 1).save(Path("ade", folder, "a.png"))
    assert run("segment", "-m", "python:loud:make", "-d", "ade", "-o", "out", *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["detect", "segment"])
def test_missing_boxes_and_label_maps_name_what_is_beside_them(verb, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    gone = tmp_path / "photoz"
    assert run(verb, "-m", "onnx:a.onnx", "-d", gone, "-o", tmp_path / "out") == 2
    output = capsys.readouterr().err
    assert f"{gone} does not exist; expected" in output
    assert "photos" in output
    # Nothing was announced, so nothing was imported for the work.
    assert "Measuring" not in output


def test_corruptions_of_a_tree_are_known_before_a_model_is_loaded(
    nothing_loads, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for cell in ("fog/1", "smog/1"):
        Path("copies", cell, "tench").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(Path("copies", cell, "tench", "a.png"))
    words = ("bench", "-m", "demo", "-d", "copies", "-o", "out", "-s", "1")
    assert run(*words, "-c", "smgo") == 2
    assert "smog" in capsys.readouterr().err
    run(*words, "-c", "fog,smog")
    assert "a model is loaded" in capsys.readouterr().err


def test_long_work_says_a_line_a_minute_where_there_is_no_terminal(monkeypatch):
    log = io.StringIO()
    now = iter([0.0, 30.0, 61.0, 70.0, 150.0])
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr(display.time, "monotonic", lambda: next(now))
    with display.progress("Read", 8) as advance:
        for note in ("clean", "fog 1", "fog 2", "fog 3"):
            advance(note=note)
    assert log.getvalue().splitlines() == [
        "Read: 2 of 8, fog 1; 1 min, about 3 min left",
        "Read: 4 of 8, fog 3; 2 min, about 2 min left",
    ]


def test_progress_that_is_switched_off_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(display, "LINE_SECONDS", 0.0)
    with display.progress("Read", 8, show=False) as advance:
        advance()
    assert capsys.readouterr().err == ""


def test_pil_images_are_corrupted_as_arrays_are():
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    for array in (pixels, pixels[..., 0]):
        changed = corrupt(Image.fromarray(array), "fog", 3, key="a")
        assert isinstance(changed, Image.Image)
        np.testing.assert_array_equal(
            np.asarray(changed), corrupt(array, "fog", severity=3, key="a")
        )
    with pytest.raises(InputError, match="mode RGB or L; got RGBA"):
        corrupt(Image.new("RGBA", (8, 8)), "fog", 3)


def test_tv_tensors_stay_tv_tensors():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    import torch

    from shiftproof.corruptions import Corrupt

    image = tv_tensors.Image(torch.zeros(3, 24, 32, dtype=torch.uint8))
    assert type(Corrupt(corruptions=["brightness"])(image)) is tv_tensors.Image
    assert (
        type(Corrupt(corruptions=["brightness"])(image.as_subclass(torch.Tensor))) is torch.Tensor
    )


def test_a_dry_run_says_what_it_takes_and_writes_nothing(tmp_path, capsys):
    words = ("bench", "-m", "demo", "-d", "demo", "-o", tmp_path / "run", "-c", "contrast,fog",
             "-s", "1-3", "--adapt", "batchnorm", "--images", "4", "-w", 0, "--dry-run")  # fmt: skip
    assert run(*words, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    # Two corruptions at three severities and the clean images, in two models.
    assert (output["images"], output["cells"], output["models"], output["passes"]) == (4, 7, 2, 56)
    assert output["tried"] == 4
    assert output["seconds"] == pytest.approx(output["load_seconds"] + output["model_seconds"])
    assert min(output["load_seconds"], output["model_seconds"]) > 0
    assert not (tmp_path / "run").exists()
    assert run(*words, "--precision", "2") == 2
    assert "--precision decides the number of images itself" in capsys.readouterr().err


def test_the_doctor_knows_every_extra_and_says_the_pip_line(monkeypatch, capsys):
    tomllib = pytest.importorskip("tomllib")
    written = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = written["project"]["optional-dependencies"]
    output = set(doctor.EXTRAS)
    differing = output ^ set(extras) - {"all", "bench", "dev"}
    assert not differing, f"{sorted(differing)}: EXTRAS of cli/doctor.py has a row of each extra"
    for name, extra in doctor.EXTRAS.items():
        needs = [one for one in extras[name] if not one.startswith("shiftproof[")]
        assert [re.split(r"[=<>\[]", one)[0] for one in needs] == list(extra.distributions)
    monkeypatch.setattr(
        doctor, "find_version", lambda name: None if name in ("ray", "timm") else "1.0"
    )
    monkeypatch.setattr(doctor, "list_devices", lambda: {"torch": ["cpu", "cuda:0"]})
    assert run("doctor") == 0
    output = capsys.readouterr().out
    assert 'python -m pip install "shiftproof[timm,ray]"' in output
    assert "--device with torch: cpu, cuda:0" in output
    assert re.search(
        r"--model timm:NAME, .*? +no *\n +python -m pip install .shiftproof\[timm\].", output
    )
    assert re.search(r"--model onnx:FILE, --depth onnx:FILE +yes", output)
    assert run("doctor", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["extras"]["ray"] == {"ray": None}
    assert output["options"]["--engine ray of all long verbs"] == {
        "missing": ["ray"], "pip": 'python -m pip install "shiftproof[ray]"',
    }  # fmt: skip
    assert min(output["memory_bytes"], output["free_disk_bytes"]) > 0


def test_an_extra_that_brings_torch_needs_it(monkeypatch):
    monkeypatch.setattr(doctor, "find_version", lambda name: None if name == "torch" else "1.0")
    assert doctor.list_missing("timm") == ["torch"]
    assert doctor.list_missing("onnx") == []
    monkeypatch.setattr(doctor, "find_version", lambda name: None)
    assert doctor.list_missing("timm") == ["torch", "timm"]
    assert doctor.format_pip_line(["torch", "timm"]) == 'python -m pip install "shiftproof[timm]"'
