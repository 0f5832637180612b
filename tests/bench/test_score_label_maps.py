"""Label maps of segmenters made elsewhere: the same figures as if the model had been asked here."""

import shutil

import numpy as np
import pytest
from PIL import Image

from shiftproof import Segmenter, bench, cli
from shiftproof.bench.cells.views import OnTheFly, as_loaded
from shiftproof.data import open_segmentation_data
from shiftproof.errors import BrokenFileError, InputError, LabelError, UnknownNameError
from shiftproof.types import CLEAN, Cell
from support.few_resamples import set_replicates
from support.label_map_trees import NAMES, nearest_color, save, write_folders

pytestmark = pytest.mark.usefixtures("few_resamples")

COUNT = 4
CORRUPTIONS = ("fog", "contrast")
CELLS = [CLEAN, *(Cell(name, severity) for name in CORRUPTIONS for severity in (1, 4))]


def upside_down(images):
    """Says grass above and sky below, whatever there is."""
    return [
        np.repeat([[1], [0]], (len(i) // 2, len(i) - len(i) // 2), 0) + 0 * i[..., 0]
        for i in images
    ]


MODELS = {"by-color": nearest_color, "fixed": upside_down}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The data, the run of two models, and what each says of each image in each cell."""
    root = tmp_path_factory.mktemp("world")
    data = open_segmentation_data(write_folders(root / "data", COUNT), classes=list(NAMES))
    models = {name: Segmenter(answer, NAMES) for name, answer in MODELS.items()}
    with pytest.MonkeyPatch.context() as patch:
        set_replicates(patch, 20)
        run = bench.run(
            models, data, out=root / "run", corruptions=list(CORRUPTIONS), severities=[1, 4],
            workers=0, show_progress=False,
        )  # fmt: skip
    view = OnTheFly(data, as_loaded, {name: name for name in CORRUPTIONS}, seed=0, encode="none")
    said = {
        name: {
            (cell, sample.id): model.predict([view.load(sample, cell)])[0]
            for cell in CELLS
            for sample in data.samples
        }
        for name, model in models.items()
    }
    return data, run, said


def name_of(cell):
    return "clean" if cell.is_clean else f"weather/{cell.corruption}/{cell.severity}"


def write_answers(root, said, change=lambda labels: labels, suffix=".png", palette=False):
    for (cell, image), labels in said.items():
        path = root / name_of(cell) / image.replace(".png", suffix)
        save(path, np.asarray(change(labels)).astype(np.uint8), palette)
    return root


@pytest.fixture
def answers(world, tmp_path):
    return write_answers(tmp_path / "answers", world[2]["by-color"])


def score(answers, world, out, **options):
    return bench.score(answers, world[0], out=out, show_progress=False, **options)


def figures(scored):
    found = {name: (one.value, one.low, one.high) for name, one in scored.summary.items() if one}
    for cell in scored.cells:
        for name, one in cell.figures.items():
            found[str(cell.cell), name] = (one.value, one.low, one.high)
    return found


def test_two_models_have_the_figures_of_a_run_of_ours(world, tmp_path):
    _, run, said = world
    given = {name: write_answers(tmp_path / name, said[name]) for name in MODELS}
    scored = score(given, world, tmp_path / "run")
    assert [one.name for one in scored.scores.models] == ["by-color", "fixed"]
    for ours, theirs in zip(scored.scores.models, run.scores.models, strict=True):
        assert len(figures(ours)) > 8
        assert figures(ours) == figures(theirs)
        assert ours.detail == theirs.detail
    assert scored.scores.differences == run.scores.differences
    assert scored.scores.grid == run.scores.grid
    # The order in which the images were shown is our own.
    ours, theirs = (one.records().drop_columns("position") for one in (scored, run))
    assert ours.equals(theirs)


@pytest.mark.parametrize("form", ["palette", "flat", "whole name", "clean twice", "no class"])
def test_label_maps_in_other_forms(world, tmp_path, form):
    _, run, said = world
    said = said["by-color"]
    root = tmp_path / "answers"
    if form == "palette":
        write_answers(root, said, palette=True)
    elif form == "flat":
        for (cell, image), labels in said.items():
            folder = "clean" if cell.is_clean else f"{cell.corruption}-{cell.severity}"
            save(root / folder / image.rsplit("/", 1)[-1], labels.astype(np.uint8))
    elif form == "whole name":
        write_answers(root, said, suffix=".png.png")
    elif form == "clean twice":
        write_answers(root, said)
        shutil.copytree(root / "clean", root / "weather/fog/0")
    else:
        write_answers(root, said, lambda labels: np.where(labels == 2, 255, labels))
    scored = score(root, world, tmp_path / "run")
    value = scored.scores.models[0].clean.figures["mIoU"].value
    theirs = run.scores.models[0].clean.figures["mIoU"].value
    if form == "no class":
        # Sky and grass stay as they were; of the ball nothing is found.
        [ball] = [one for one in scored.scores.models[0].detail["classes"] if one["name"] == "ball"]
        assert ball["clean"] == 0 < value < theirs
    else:
        assert value == theirs


def test_numbers_that_mean_other_classes(world, tmp_path):
    _, run, said = world
    turned = write_answers(tmp_path / "turned", said["by-color"], lambda labels: 2 - labels)
    moved = write_answers(tmp_path / "moved", said["by-color"], lambda labels: 10 + labels)
    numbered = tmp_path / "numbers.csv"
    numbered.write_text("".join(f"{10 + place},{name}\n" for place, name in enumerate(NAMES)))
    theirs = figures(run.scores.models[0])
    ours = score(turned, world, tmp_path / "a", classes=NAMES[::-1])
    assert figures(ours.scores.models[0]) == theirs
    ours = score(moved, world, tmp_path / "b", classes=numbered)
    assert figures(ours.scores.models[0]) == theirs
    mapping = {str(10 + place): name for place, name in enumerate(NAMES)}
    ours = score(moved, world, tmp_path / "c", class_map=mapping)
    assert figures(ours.scores.models[0]) == theirs


def test_numbers_that_could_be_two_things_are_asked_for(world, tmp_path):
    """Label maps of the data that count from 1, as those of ADE20K do."""
    data, run, said = world
    root = tmp_path / "data"
    for number in range(COUNT):
        shutil.copytree(data.root / "images", root / "images", dirs_exist_ok=True)
        labels = np.asarray(Image.open(data.root / f"masks/{number}.png"))
        save(root / f"masks/{number}.png", np.where(labels == 255, 0, labels + 1).astype(np.uint8))
    names = tmp_path / "names.csv"
    names.write_text("1,sky\n2,grass\n3,ball\n")
    from_one = open_segmentation_data(root, classes=names, void=[0])
    counted = write_answers(tmp_path / "counted", said["by-color"], lambda labels: labels + 1)
    places = write_answers(tmp_path / "places", said["by-color"])
    with pytest.raises(InputError, match=r"'sky' at place 0, so it is open .*--classes index"):
        bench.score(counted, from_one, out=tmp_path / "no")
    theirs = figures(run.scores.models[0])
    for answers, word in ((counted, "label-maps"), (places, "index")):
        ours = bench.score(answers, from_one, out=tmp_path / word, classes=word)
        assert figures(ours.scores.models[0]) == theirs


def damage(root, how):
    one = root / "weather/fog/4/images/2.png"
    if how == "size":
        save(one, np.zeros((24, 35), np.uint8))
    elif how == "number":
        save(one, np.full((24, 36), 7, np.uint8))
    elif how == "colors":
        save(one, np.zeros((24, 36, 3), np.uint8))
    elif how == "gone":
        one.unlink()
    elif how == "twice":
        shutil.copy(one, root / "weather/fog/4/2.png")
    elif how == "unknown":
        shutil.copy(one, one.with_name("other.png"))
    elif how == "jpeg":
        Image.open(one).save(one.with_suffix(".jpg"))
        one.unlink()
    elif how == "jpeg inside":
        Image.open(one).save(one, format="JPEG")
    else:
        one.write_bytes(one.read_bytes()[:60])


FAULTS = {
    "size": r"fog/4/images/2.png: 35 x 24 pixels, and the truth of images/2.png has 36 x 24",
    "number": r"fog/4/images/2.png: 864 pixels with the number 7, which is no class",
    "colors": r"fog/4/images/2.png: expected",
    "gone": r"1 of 4 images have no label map in the cell fog-4 \(first: images/2.png\)",
    "twice": r"4/2.png and .*4/images/2.png are both of images/2.png in the cell fog-4",
    "unknown": r"4/images/other.png is of none of the 4 images; expected such as fog/4/images/0.png",
    "jpeg": r"4/images/2.jpg is no PNG; .* JPEG blurs the numbers",
    "jpeg inside": r"fog/4/images/2.png: .*JPEG",
    "cut": r"fog/4/images/2.png: damaged image",
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("there", [False, True])
def test_what_does_not_fit_is_named_and_nothing_is_left(world, answers, tmp_path, how, there):
    damage(answers, how)
    out = tmp_path / "run"
    if there:
        out.mkdir()
    with pytest.raises(InputError, match=FAULTS[how]):
        score(answers, world, out, workers=0)
    assert out.exists() is there
    assert not there or not [one for one in out.iterdir() if one.name[0] != "."]


def test_a_run_that_was_begun_before_stays_and_goes_on(world, answers, tmp_path):
    out = tmp_path / "run"
    done = score(answers, world, out)
    theirs = figures(done.scores.models[0])
    (out / "scores.json").unlink()
    (out / "records/segmenter/fog-4.parquet").unlink()
    assert figures(score(answers, world, out).scores.models[0]) == theirs


def test_classes_that_are_not_there(world, answers, tmp_path):
    with pytest.raises(LabelError, match="no class in common"):
        score(answers, world, tmp_path / "run", classes=["road", "car", "sign"])
    with pytest.raises(UnknownNameError, match="Did you mean 'grass'"):
        score(answers, world, tmp_path / "run", class_map={"0": "sky", "1": "gras"})
    with pytest.raises(BrokenFileError):
        score(answers, world, tmp_path / "run", classes=tmp_path / "none.txt")
    assert not (tmp_path / "run").exists()


def call(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return ended.value.code


def test_the_terminal_tells_slips_and_cells_left_out(world, answers, tmp_path, capsys):
    data, _, said = world
    other = write_answers(tmp_path / "other", said["fixed"])
    (answers / "weather/contrast").rename(answers / "weather/contrats")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    given = ["-p", f"mine={answers}", "-p", f"theirs={other}", "-d", str(data.root)]
    code = call("score", *given, "-o", tmp_path / "run", "--classes", names, "-w", 0)
    output = " ".join(capsys.readouterr().err.split())
    assert code == 0
    assert "'contrats' is not a corruption of the table" in output
    assert "If it is 'contrast', rename its folder." in output
    assert "mine has no answers for contrast-1, contrast-4: left out for all models" in output
    assert "theirs has no answers for contrats-1, contrats-4: left out for all models" in output


def test_the_command_ends_with_two_and_one_sentence(world, answers, tmp_path, capsys):
    data, _, _ = world
    damage(answers, "gone")
    out = tmp_path / "run"
    assert call("score", "-p", answers, "-d", data.root, "-o", out) == 2
    assert "have no label map in the cell fog-4" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_the_page_shows_answers_without_photographs_that_nobody_has(world, answers, tmp_path):
    from shiftproof.report import write_report

    scored = score(answers, world, tmp_path / "run")
    page = write_report(scored.path, tmp_path / "page.html").read_text()
    assert "Images with the largest loss" in page
    shown = page.split('id="gallery"')[1].split("</section>")[0]
    # The clean photograph, the truth, and the answers in the clean and in the corrupted cell.
    assert shown.count("<figure") == 4 * shown.count('class="case"') > 0
    assert "fog, severity 4, mIoU" in shown or "contrast, severity 4, mIoU" in shown
