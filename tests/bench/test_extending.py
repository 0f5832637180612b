"""A run that more is asked of: the missing cells alone are made, and it ends as one run over all."""

import json
import os
from typing import ClassVar

import pytest

from shiftproof import Segmenter, bench, load_run
from shiftproof.bench.cells import filling
from shiftproof.bench.grid import extending
from shiftproof.bench.tasks.classification.recorder import ClassifierRecording
from shiftproof.data import open_data, open_segmentation_data
from shiftproof.errors import InputError, RunMismatchError, UnfinishedError
from shiftproof.io import folder_locks
from shiftproof.runs.folder import RunFolder
from shiftproof.shards import Scheduled
from support import blobs, tiny
from support.label_map_trees import NAMES, nearest_color, write_folders
from support.learner import Learner
from support.run_files import everything
from support.sent import Sent

pytestmark = pytest.mark.usefixtures("few_resamples")

SMALL = {"corruptions": ["contrast"], "severities": [1, 5]}


class Other(Learner):
    """A second adapter, which the settings tell from the first."""

    @property
    def settings(self):
        return {**super().settings, "adapter": "other"}


def inverted(batch):
    return -tiny.mean_colour(batch)


def make_other():
    model = tiny.make_model()
    return type(model)(inverted, model.preprocess, model.classes, name="inverted")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.write_photos(tmp_path_factory.mktemp("photos") / "photos", per_class=2)


@pytest.fixture
def start(photos, tmp_path):
    def run(name="run", models=None, **options):
        model = tiny.make_model()
        data = open_data(photos, classes=model.classes)
        return bench.run(
            model if models is None else models, data, out=tmp_path / name, workers=0,
            **{"show_progress": False, **SMALL, **options},
        )  # fmt: skip

    return run


def settings_of(run):
    content = json.loads((run.path / "run.json").read_text())
    assert "extension" not in content
    return content["settings"]


ONE, TWO = {"one": tiny.make_model}, {"one": tiny.make_model, "two": make_other}
EXTENSIONS = {
    "corruptions": ({}, {"corruptions": ["brightness", "contrast"]}),
    "severities": ({}, {"severities": [1, 3, 5]}),
    "adapters": ({}, {"adapters": {"learner": Learner}}),
    "models": ({"models": ONE}, {"models": TWO}),
    "all of them": (
        {"models": ONE, "adapters": {"learner": Learner}},
        {
            "models": TWO, "adapters": {"learner": Learner, "other": Other},
            "corruptions": ["contrast", "brightness"], "severities": [1, 2, 5],
        },
    ),
}  # fmt: skip


def make(options):
    models = options.get("models")
    made = None if models is None else {name: one() for name, one in models.items()}
    return {**options, "models": made}


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_an_extended_run_is_the_run_over_all(start, kind):
    small, large = EXTENSIONS[kind]
    run = start(**make(small))
    before = {path: path.read_bytes() for path in run.path.glob("records/*/*")}
    assert before
    extended, whole = start(**make(large)), start("whole", **make(large))
    assert everything(extended.path) == everything(whole.path)
    assert {path: path.read_bytes() for path in before} == before
    assert settings_of(extended) == settings_of(whole)
    assert list(settings_of(extended)["corruptions"]) == list(settings_of(whole)["corruptions"])


def test_what_is_there_is_not_made_again(start, monkeypatch):
    start()
    shown = []
    predict = ClassifierRecording.predict

    def count(self, model, batch):
        shown.append(len(batch))
        return predict(self, model, batch)

    monkeypatch.setattr(ClassifierRecording, "predict", count)
    start(corruptions=["contrast", "brightness"])
    assert shown == [6, 6]  # images in each new cell


def test_the_line_says_what_is_there_and_what_is_added(start, capsys):
    def run_again(**options):
        start(**{"show_progress": None, **options})
        return capsys.readouterr().err

    assert run_again() == ""
    more = {"corruptions": ["contrast", "brightness"]}
    assert "3 cells are there, 2 are added: brightness at 1 and 5\n" in run_again(**more)
    more |= {"severities": [1, 2, 3, 5], "adapters": {"learner": Learner}}
    assert (
        "5 cells are there, 13 are added: contrast and brightness at 2 and 3; learner in all cells\n"
    ) in run_again(**more)
    assert (
        "18 cells are there; all are kept, also what was not asked for: brightness, severity 2, "
        "severity 3 and learner\n"
    ) in run_again()


def test_nothing_is_taken_away_and_nothing_done_again(start):
    run = start(corruptions=["contrast", "brightness"])
    times = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    again = start(severities=[5])
    assert [cell.cell.corruption for cell in again.scores.models[0].cells] == [
        "contrast", "contrast", "brightness", "brightness",
    ]  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_an_addition_that_leaves_out_what_is_there_is_added_behind_it(start):
    start(models={"one": tiny.make_model()})
    extended = start(models={"two": make_other()})
    whole = start("whole", models={"one": tiny.make_model(), "two": make_other()})
    assert everything(extended.path) == everything(whole.path)
    extended = start(
        models={"one": tiny.make_model(), "two": make_other()}, corruptions=["brightness"]
    )
    assert [cell.corruption for cell in extended.scores.models[1].cells[::2]] == [
        "contrast", "brightness",
    ]  # fmt: skip


class TestASingleModel:
    """It is called source, and by its own name beside others."""

    def test_is_renamed_when_others_come(self, start):
        start(adapters={"learner": Learner})
        extended, whole = (
            start(
                name, models={"one": tiny.make_model(), "two": make_other()},
                adapters={"learner": Learner},
            )
            for name in ("run", "whole")
        )  # fmt: skip
        assert everything(extended.path) == everything(whole.path)

    def test_is_found_among_others(self, start):
        start(models={"two": make_other(), "one": tiny.make_model()})
        extended, whole = (
            start(name, models=models, corruptions=["contrast"])
            for name, models in (
                ("run", None),
                ("whole", {"two": make_other(), "one": tiny.make_model()}),
            )
        )
        assert everything(extended.path) == everything(whole.path)

    def test_keeps_its_title_when_others_come_without_it(self, start):
        start()
        extended = start(models={"two": make_other(), "three": make_other()})
        whole = start(
            "whole",
            models={"source": tiny.make_model(), "two": make_other(), "three": make_other()},
        )
        assert everything(extended.path) == everything(whole.path)
        assert [model.title for model in extended.scores.models] == ["mean colour", "two", "three"]

    def test_may_be_called_otherwise_later(self, start):
        start()
        extended = start(models={"one": tiny.make_model()}, severities=[1, 3, 5])
        assert everything(extended.path) == everything(start("whole", severities=[1, 3, 5]).path)

    def test_is_not_mistaken_for_another(self, start):
        start()
        with pytest.raises(RunMismatchError, match=r"source: name was mean colour.* by a name of"):
            start(models=make_other())


def test_calibrations_are_added(start, photos):
    grid = {"task": bench.Classification(calibrate="fraction=0.5", coverage=0.5)}
    start(models={"source": tiny.make_model()}, **grid)
    extended, whole = (
        start(name, models={"one": tiny.make_model(), "two": make_other()}, **grid)
        for name in ("run", "whole")
    )
    assert everything(extended.path) == everything(whole.path)


REFUSED = {
    "one stream": (
        {"protocol": "online:reset=never", "adapters": {"learner": Learner}},
        {"corruptions": ["contrast", "brightness"]},
        r"cannot be extended by brightness: under the protocol online:reset=never all cells are one",
    ),
    "mixed severities": (
        {"protocol": "online:mix=severities"},
        {"severities": [1, 3, 5]},
        r"cannot be extended by severity 3: under the protocol online:mix=severities the severities",
    ),
    "another first model": (
        {"models": ONE, "adapters": {"learner": Learner}},
        {"models": {"two": make_other, "one": tiny.make_model}},
        "adapters run beside the first model of a run, which is one for learner and two in the",
    ),
    "adapters of another model": (
        {"models": ONE},
        {"models": {"two": make_other}, "adapters": {"learner": Learner}},
        "which is two for learner and one in the extended run. Name two first",
    ),
    "a model without the new cells": (
        {"models": ONE},
        {"models": {"two": make_other}, "corruptions": ["brightness"]},
        "has the model one, too, and brightness-1 is not recorded of it",
    ),
    "a corruption that its name does not give": (
        {"corruptions": {"contrast": lambda image, severity, rng: image}},
        {"corruptions": ["brightness"]},
        r"has the corruption contrast, too \(.*lambda.*\), which its name alone does not give",
    ),
    "another corruption of the name": (
        {"corruptions": {"contrast": lambda image, severity, rng: image}},
        {"corruptions": ["contrast", "brightness"]},
        "other settings: corruptions: contrast was .*lambda",
    ),
    "another seed": ({}, {"seed": 1, "corruptions": ["brightness"]}, "seed was 0, now 1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_change_the_cells_that_are_there_is_refused(start, kind):
    small, large, says = REFUSED[kind]
    run = start(**make(small))
    before = everything(run.path)
    with pytest.raises(RunMismatchError, match=says):
        start(**make({**small, **large}))
    assert everything(run.path) == before


@pytest.mark.parametrize(
    ("protocol", "more"),
    [
        ("online:reset=never", {"adapters": {"learner": Learner, "other": Other}}),
        ("online:mix=severities", {"corruptions": ["contrast", "brightness"]}),
    ],
)
def test_other_streams_can_be_added(start, protocol, more):
    options = {"protocol": protocol, "adapters": {"learner": Learner}}
    start(**options)
    extended, whole = (start(name, **{**options, **more}) for name in ("run", "whole"))
    assert everything(extended.path) == everything(whole.path)


class Killed(BaseException):
    """Instead of a signal."""


class TestWhileARunIsExtended:
    more: ClassVar = {
        "models": {"one": tiny.make_model, "two": make_other},
        "severities": [1, 2, 5],
    }

    @pytest.fixture
    def half(self, start, monkeypatch):
        """A run whose extension was killed in the middle, and its scores before."""
        run = start(adapters={"learner": Learner})
        (run.path / "report.html").write_text("old")
        before = run.scores
        with monkeypatch.context() as patch:
            patch.setattr(filling.EpisodeRun, "finish", _kill_after(filling.EpisodeRun.finish, 2))
            with pytest.raises(Killed):
                start(**make(self.more), adapters={"learner": Learner})
        return run.path, before

    def test_readers_see_the_run_of_before(self, half):
        path, before = half
        run = load_run(path)
        assert run.scores == before
        assert list(run.settings["models"]) == ["source"]
        assert run.settings["severities"] == [1, 5]
        assert run.records().num_rows == 2 * 3 * 6
        assert (path / "report.html").read_text() == "old"
        # Who measures the larger run, to say what may be claimed of it, reads its settings.
        folder = RunFolder(path)
        folder.show_extended()
        assert folder.info()["settings"]["severities"] == [1, 2, 5]

    def test_it_goes_on(self, half, start):
        path, _ = half
        extended, whole = (
            start(name, **make(self.more), adapters={"learner": Learner})
            for name in ("run", "whole")
        )
        assert everything(extended.path) == everything(whole.path)
        assert not (path / "records" / "source").exists()
        content = json.loads((path / "run.json").read_text())
        [entry] = content["extended"]
        assert entry["added"] == "contrast at 2; two in all cells"

    def test_the_command_of_before_gives_the_run_of_before(self, half, start, capsys):
        path, before = half
        files = everything(path)
        assert start(adapters={"learner": Learner}, show_progress=None).scores == before
        assert (
            "6 cells are there; others were begun and are left out: contrast at 2; two in all cells. "
            "Ask for them to go on\n"
        ) in capsys.readouterr().err
        assert everything(path) == files

    def test_more_can_be_asked_for_meanwhile(self, half, start):
        more = {**make(self.more), "severities": [1, 2, 3, 5]}
        extended, whole = (
            start(name, **more, adapters={"learner": Learner}) for name in ("run", "whole")
        )
        assert everything(extended.path) == everything(whole.path)
        [entry] = extended.info.extended
        assert entry["added"] == "contrast at 2; two in all cells; contrast at 3"

    @pytest.mark.parametrize("renamed", ["..", "absolute"])
    def test_names_that_lead_elsewhere_remove_nothing(self, half, start, tmp_path, renamed):
        path, _ = half
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/kept.txt").write_text("mine")
        content = json.loads((path / "run.json").read_text())
        name = "../../mine" if renamed == ".." else str(tmp_path / "mine")
        content["extension"]["renamed"][name] = "one"
        (path / "run.json").write_text(json.dumps(content))
        start(**make(self.more), adapters={"learner": Learner})
        assert (tmp_path / "mine/kept.txt").read_text() == "mine"
        assert load_run(path).settings["severities"] == [1, 2, 5]

    def test_new_scores_are_of_the_larger_run(self, half, start, monkeypatch):
        path, _ = half
        options = {**make(self.more), "adapters": {"learner": Learner}}
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "finish_extension", _kill_after(None, 1))
            with pytest.raises(Killed):
                start(**options)
        assert "extension" in json.loads((path / "run.json").read_text())
        run = load_run(path)
        assert run.settings["severities"] == [1, 2, 5]
        assert [model.name for model in run.scores.models] == ["one", "two", "learner"]
        extended, whole = (start(name, **options) for name in ("run", "whole"))
        assert everything(extended.path) == everything(whole.path)
        assert "extension" not in json.loads((path / "run.json").read_text())


def _kill_after(function, calls):
    made = []

    def wrapped(*args):
        made.append(args)
        if len(made) == calls:
            raise Killed
        return function(*args)

    return wrapped


class TestWorkers:
    def test_agree_on_the_larger_grid(self, start):
        more = {"corruptions": ["contrast", "brightness"]}
        start()
        for worker in (2, 0):
            with pytest.raises(UnfinishedError):
                start(backend=Scheduled(worker, 3), **more)
        # One that asks for less works on the same grid.
        extended, whole = start(backend=Scheduled(1, 3)), start("whole", **more)
        assert everything(extended.path) == everything(whole.path)

    def test_are_not_extended_while_they_are_at_work(self, start, tmp_path):
        more = {"corruptions": ["contrast", "brightness"]}
        with pytest.raises(UnfinishedError):
            start(backend=Scheduled(0, 3))
        before = (tmp_path / "run" / "run.json").read_bytes()
        with folder_locks._lock(tmp_path / "run", shared=True):
            with pytest.raises(InputError, match="Another command is running"):
                start(backend=Scheduled(1, 3), **more)
            assert (tmp_path / "run" / "run.json").read_bytes() == before
            with pytest.raises(UnfinishedError):
                start(backend=Scheduled(1, 3))


def test_records_are_copied_where_a_disk_has_no_links(start, monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    start()
    extended, whole = (
        start(name, models={"one": tiny.make_model(), "two": make_other()})
        for name in ("run", "whole")
    )
    assert everything(extended.path) == everything(whole.path)


def test_figures_by_condition_are_of_the_run_before(start, photos):
    run = start()
    bench.score_conditions(run, by="part:1")
    assert run.folder.conditions_files
    assert start(severities=[1, 2, 5]).folder.conditions_files == []


@pytest.mark.parametrize("severities", [[[1]], ["1", 5], [None, 5]])
def test_a_run_whose_severities_are_no_numbers_is_refused(start, severities):
    run = start()
    content = json.loads((run.path / "run.json").read_text())
    content["settings"]["severities"] = severities
    (run.path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RunMismatchError, match=r"severities was .*, now 1, 3, 5"):
        start(severities=[1, 3, 5])


def test_a_run_of_format_1_can_be_extended(start):
    """``run.json`` as it was written before runs could be extended has the same form."""
    run = start()
    content = json.loads((run.path / "run.json").read_text())
    assert set(content) == {"format", "kind", "settings", "classes", "assumed", "provenance"}
    assert content["format"] == 1
    extended = start(severities=[1, 3, 5])
    content = json.loads((run.path / "run.json").read_text())
    assert content["format"] == 1
    assert [entry["added"] for entry in content["extended"]] == ["contrast at 3"]
    assert extended.info.extended[0]["provenance"]["command"]


class TestDetectors:
    grid: ClassVar = {"corruptions": ["contrast"], "severities": [5], "workers": 0}
    more: ClassVar = {**grid, "corruptions": ["contrast", "brightness"]}

    def run(self, data, out, models, **grid):
        made = {name: blobs.make_detector() for name in models}
        return bench.run(made, data, out=out, show_progress=False, **grid)

    def test_an_extended_run_is_the_run_over_all(self, tmp_path):
        data = blobs.write_blocks(tmp_path / "data", images=3)
        self.run(data, tmp_path / "run", ["source"], **self.grid)
        extended, whole = (
            self.run(data, tmp_path / name, ["one", "two"], **self.more)
            for name in ("run", "whole")
        )
        assert everything(extended.path) == everything(whole.path)
        # What is there of one that is not named again is kept, and drawn.
        extended = self.run(data, tmp_path / "run", ["three"], **self.more)
        whole = self.run(data, tmp_path / "all", ["one", "two", "three"], **self.more)
        assert everything(extended.path) == everything(whole.path)

    def test_a_run_with_a_budget_is_refused(self, tmp_path):
        data = blobs.write_blocks(tmp_path / "data", images=3)
        detector = blobs.make_detector()
        bench.run_within(detector, data, budget=1e-9, out=tmp_path / "run", **self.grid)
        with pytest.raises(RunMismatchError, match="budget cannot be extended: its images depend"):
            bench.run_within(detector, data, budget=1e-9, out=tmp_path / "run", **self.more)
        with pytest.raises(RunMismatchError, match="by brightness: a budget chose its images"):
            bench.run(detector, data, out=tmp_path / "run", images=3, **self.more)


def test_a_run_of_segmenters_is_extended_to_the_run_over_all(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data", 3), classes=list(NAMES))
    models = {"one": Segmenter(nearest_color, NAMES), "two": Segmenter(nearest_color, NAMES)}

    def start(name, models, **options):
        return bench.run(models, data, out=tmp_path / name, workers=0, **{**SMALL, **options})

    start("run", {"one": models["one"]})
    with pytest.raises(RunMismatchError, match=r"has the model one, too, whose answers the page"):
        start("run", {"two": models["two"]})
    extended, whole = (
        start(name, models, corruptions=["contrast", "brightness"]) for name in ("run", "whole")
    )
    assert everything(extended.path) == everything(whole.path)


def test_an_anytime_run_is_refused(photos, tmp_path):
    model, grid = tiny.make_model(), {**SMALL, "out": tmp_path / "run", "workers": 0}
    bench.run_anytime(model, photos, precision=1e-9, **grid)
    says = "An anytime run cannot be extended: its draws depend on all cells"
    with pytest.raises(RunMismatchError, match=says):
        bench.run_anytime(model, photos, precision=1e-9, **{**grid, "severities": [1, 2, 5]})
    with pytest.raises(RunMismatchError, match=says):
        bench.run(model, photos, **grid)


def test_a_forecast_is_of_what_is_missing(start, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.bench.grid.forecast.TRIED_SECONDS", 0.0)
    model = tiny.make_model()
    data = open_data(photos, classes=model.classes)

    def ask(**options):
        return bench.forecast_run(
            model, data, task=bench.Classification(), out=tmp_path / "run",
            **{**SMALL, "workers": 0, **options},
        )  # fmt: skip

    whole = ask()
    assert (whole.extent, whole.passes, whole.cells, whole.parts) == (None, 18, 3, 3)
    run = start()
    before = everything(run.path)
    done = ask()
    assert (done.extent, done.passes) == ("3 cells are there, 0 are left", 0)
    assert done.load_seconds == done.model_seconds == done.disk == 0
    more = ask(severities=[1, 3, 5], adapters={"learner": Learner})
    assert more.extent == "3 cells are there, 5 are added: contrast at 3; learner in all cells"
    assert (more.passes, more.cells, more.parts) == (5 * 6, 4, 5)
    with pytest.raises(RunMismatchError, match="seed was 0, now 1"):
        ask(seed=1)
    assert everything(run.path) == before


def test_cells_that_are_made_elsewhere_are_added(start):
    more = {"models": {"one": tiny.make_model(), "two": make_other()}, "severities": [1, 3, 5]}
    start()
    extended, whole = start(backend=Sent(), **more), start("whole", **more)
    assert everything(extended.path) == everything(whole.path)


def test_a_run_that_was_scored_elsewhere_is_refused(start, tmp_path):
    (tmp_path / "run").mkdir()
    info = {"format": 1, "kind": "classification", "settings": {"models": {"source": {}}}}
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    with pytest.raises(RunMismatchError, match="a run with other settings"):
        start()


def test_names_of_a_strangers_settings_that_lead_elsewhere_are_not_taken():
    """A model of one's own gets the name that it has in the run there, and with it a folder."""
    same = {"adapter": None}
    for name, found in (("net", {"source": "net"}), ("../net", {}), ("a/b", {})):
        there, here = {"models": {name: same}}, {"models": {"source": same}}
        assert extending._match_names(there, here) == ({}, found)
