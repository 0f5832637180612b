"""How workers, clusters and their cost are spelt on the command line, alike for every long verb."""

import json
from string import ascii_lowercase

import pytest
import torch

from shiftproof import cli
from shiftproof.bench.grid.forecast import _spread
from shiftproof.cli import verbs
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.verbs import load_verb
from shiftproof.errors import InputError
from shiftproof.models import TextEncoder
from shiftproof.models.image_text.towers import TextTower
from shiftproof.shards import Ray, Scheduled
from shiftproof.shards.gpus import VISIBLE, choose_gpus, restrict_to_gpus
from support import tiny

WORDS = {"--engine", "--address", "--worker", "--of", "--gpus-per-task"}


def list_options(verb):
    return {name for parameter in load_verb(verb).params for name in parameter.opts}


LONG = [verb for verb in verbs.VERBS if "--worker" in list_options(verb)]


@pytest.mark.parametrize("verb", LONG)
def test_a_long_verb_takes_the_words_of_many_machines(verb):
    lacking = WORDS - list_options(verb)
    assert not lacking, f"{verb} lacks {sorted(lacking)}: take them as a PartOptions"


def test_options_become_a_backend():
    assert PartOptions().choose(2) is None
    assert PartOptions(worker=1, of=3).choose(2) == Scheduled(1, 3, 2)
    on_ray = PartOptions(engine="ray", address="auto", gpus_per_task=0.5)
    assert on_ray.choose(0) == Ray("auto", None, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"worker": 1}, "--worker and --of belong together"),
        ({"worker": 3, "of": 3}, "Expected worker 0 to 2 of 3, got worker 3 of 3"),
        ({"worker": 0, "of": 0}, "Expected 1 command or more to share the work, got 0"),
        ({"worker": 0, "of": 2, "engine": "ray"}, "leave it out with --engine ray"),
        ({"address": "auto"}, "--address has an effect with --engine ray only"),
        ({"gpus_per_task": 1}, "--gpus-per-task has an effect with"),
        ({"gpus_per_task": 0.5, "worker": 0, "of": 2}, "expected a whole number with --worker"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        PartOptions(**options).choose()


@pytest.mark.parametrize(
    ("worker", "of_each", "expected"),
    [(0, 1, ["0"]), (3, 1, ["3"]), (4, 1, ["0"]), (1, 2, ["2", "3"]), (2, 2, ["0", "1"])],
)
def test_gpus_are_dealt_out_in_order(worker, of_each, expected):
    assert choose_gpus(["0", "1", "2", "3"], worker, of_each) == expected


def test_the_gpus_that_a_scheduler_named_are_those_that_are_dealt_out():
    environment = {VISIBLE: "GPU-a,GPU-b"}
    restrict_to_gpus(3, 1, environment)
    assert environment == {VISIBLE: "GPU-b"}
    with pytest.raises(InputError, match="requests 2 GPUs, and this machine has 1"):
        restrict_to_gpus(0, 2, environment)


def test_a_worker_ends_well_and_the_last_one_writes_the_scores(tmp_path, capsys):
    words = ["bench", "--model", "demo", "--data", "demo", "--images", "4", "--workers", "0"]
    words += ["--corruptions", "contrast", "--severities", "3", "--out", str(tmp_path / "run")]
    assert cli.run([*words, "--worker", "0", "--of", "2"]) == 0
    assert "This worker's share is done. Benchmark: 1 of 2 parts" in capsys.readouterr().out
    assert not (tmp_path / "run/scores.json").exists()
    assert cli.run([*words, "--worker", "1", "--of", "2"]) == 0
    assert (tmp_path / "run/scores.json").is_file()


def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path, capsys):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)
    words = ["corrupt", str(photos), str(tmp_path / "out"), "-c", "fog", "-s", "1"]
    assert cli.run([*words, "--engine", "ray", "--address", "127.0.0.1:1"]) == 2
    output = capsys.readouterr().err
    assert "Nothing answers at 127.0.0.1:1" in output
    assert "Traceback" not in output


# ---------------------------------------------------------------- what it would take


def test_a_plan_says_memory_disk_and_money(tmp_path, capsys, monkeypatch):
    photos = tiny.write_photos(tmp_path / "photos", per_class=2)
    monkeypatch.setattr("shiftproof.embed.forecast.TRIED_SECONDS", 0.01)
    common = ["--dry-run", "--rate", "3600", "--json", "--workers", "0"]
    grid = ["-c", "contrast", "-s", "3"]
    out = str(tmp_path / "out")
    verbs = {
        "bench": ["--model", "demo", "--data", str(photos), "--unlabeled", "--out", out, *grid],
        "embed": ["--data", str(photos), "--out", out, "--shard-size", "2"],
        "corrupt": [str(photos), out, *grid],
    }
    parts = {"bench": 2, "embed": 3, "corrupt": 2}
    for verb, words in verbs.items():
        assert cli.run([verb, *words, *common]) == 0
        output = json.loads(capsys.readouterr().out)
        # At 3,600 an hour a second costs 1.
        assert output["cost"] == pytest.approx(output["seconds"])
        assert output["cost"] > 0
        assert output["memory"] > 10**7
        assert output["disk"] > 0
        assert output["parts"] == parts[verb]
    assert not (tmp_path / "out").exists()


def count_letters(texts):
    return torch.tensor([[text.count(letter) for letter in ascii_lowercase] for text in texts])


def test_a_plan_of_texts_says_what_they_take(tmp_path, capsys, monkeypatch):
    texts = tmp_path / "texts.txt"
    texts.write_text("a red square\na green one\na blue one\n")
    encoder = TextEncoder(TextTower(count_letters, lambda: "letters"), name="letters")
    monkeypatch.setattr("shiftproof.embed.forecast.TRIED_SECONDS", 0.01)
    monkeypatch.setattr("shiftproof.models.load_text_encoder", lambda *_, **__: encoder)
    words = ["embed", "--texts", str(texts), "--out", str(tmp_path / "out"), "--shard-size", "2"]
    assert cli.run([*words, "--dry-run", "--rate", "3600", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["texts"], output["shards"], output["parts"], output["tried"]) == (3, 2, 2, 3)
    assert output["cost"] == pytest.approx(output["seconds"])
    # Rows of 26 numbers in float16 and 24 bytes of metadata, and the letters themselves.
    assert output["disk"] == 3 * (2 * 26 + 24) + 12 + 11 + 10
    assert not (tmp_path / "out").exists()
    assert cli.run([*words, "--dry-run"]) == 0
    assert "3 texts in 2 shards" in capsys.readouterr().out


@pytest.mark.parametrize("rate", ["-1", "nan", "inf"])
def test_a_rate_that_is_none_is_refused_before_anything_is_tried(rate, tmp_path, capsys):
    words = ["embed", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.run([*words, "--dry-run", f"--rate={rate}"]) == 2
    assert "--rate: expected the price of an hour of a machine" in capsys.readouterr().err


def test_a_plan_takes_as_many_images_as_there_is_time_for(tmp_path, capsys, monkeypatch):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)
    words = ["bench", "--model", "demo", "--data", str(photos), "--unlabeled", "-c", "contrast",
             "-s", "3", "--out", str(tmp_path / "out"), "--dry-run", "--json"]  # fmt: skip
    for seconds, tried in ((60, 3), (0, 1)):
        monkeypatch.setattr("shiftproof.bench.grid.forecast.TRIED_SECONDS", seconds)
        assert cli.run(words) == 0
        output = json.loads(capsys.readouterr().out)
        assert output["tried"] == tried
        assert output["disk"] > 0


def test_the_first_images_of_a_plan_lie_far_from_each_other():
    # The multiples of 0.618 without their whole part: .0, .618, .236, .854, .472, .090, ...
    assert list(_spread(range(10)))[:6] == [0, 6, 2, 8, 4, 7]
    assert sorted(_spread(range(1000))) == list(range(1000))


def test_a_plan_is_told_in_words(tmp_path, capsys):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)
    words = ["corrupt", str(photos), str(tmp_path / "out"), "-c", "contrast", "-s", "3"]
    assert cli.run([*words, "--dry-run", "--rate", "2.5"]) == 0
    output = capsys.readouterr().out
    assert "of memory; up to 2 machines can share the work" in output
    assert "hours at 2.5 an hour" in output


def test_a_rate_without_a_plan_is_refused(tmp_path, capsys):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)
    words = ["corrupt", str(photos), str(tmp_path / "out"), "-c", "contrast", "-s", "3"]
    assert cli.run([*words, "--rate", "2"]) == 2
    assert "--rate has an effect with --dry-run only" in capsys.readouterr().err


# ---------------------------------------------------------------- what is no value


NO_FILE = "onnx:nothing.onnx"
VERBS = {
    "bench": ["--model", NO_FILE, "--data", "demo", "--out"],
    "detect": ["--model", NO_FILE, "--data", "demo", "--out"],
    "segment": ["--model", NO_FILE, "--data", "demo", "--out"],
    "probe": ["--model", NO_FILE, "--data", "demo", "--out"],
    "evaluate": ["--model", NO_FILE, "--data", "nothing", "--out"],
    "stylize": ["nothing"],
    "audit": ["a.npy", "--test", "b.npy", "--out"],
    "prune": ["a.npy", "--test", "b.npy", "--out"],
    "dedup": ["a.npy", "--out"],
    "coreset": ["a.npy", "--test", "b.npy", "--size", "3", "--out"],
}
REFUSED = [
    *(
        (verb, ["--precision", points], "above 0 and below 100")
        for verb in ("bench", "detect")
        for points in ("nan", "-1", "0", "101")
    ),
    *(
        (verb, ["--budget", time], "Expected a budget of time above 0")
        for verb in ("bench", "detect", "segment")
        for time in ("0", "-1s", "10", "nan", "1e3s", "")
    ),
    ("bench", ["--compare"], "--compare takes two models or more"),
    ("bench", ["--compare", "--model", NO_FILE], "Two models have the name 'nothing'"),
    ("detect", ["--budget", "1s", "--images", "4"], "both decide the number of images"),
    ("detect", ["--budget", "1s", "--precision", "1"], "both decide the number of images"),
    ("detect", ["--budget", "1s", "--dry-run"], "leave it out of --dry-run"),
    ("segment", ["--budget", "1s", "--adapt", "ent"], "shows images in rounds"),
    ("segment", ["--budget", "1s", "--worker", "0", "--of", "2"], "the speed of one process"),
    *((verb, ["--worker", "3", "--of", "2"], "Expected worker 0 to 1 of 2") for verb in VERBS),
    *((verb, ["--gpus-per-task", "nan"], "--gpus-per-task") for verb in VERBS),
    *(
        (
            verb,
            ["--gpus-per-task", "-1", "--engine", "ray"],
            "Expected 0 GPUs or more for a task (--gpus-per-task), got -1",
        )
        for verb in VERBS
    ),
    ("dedup", ["--gpus-per-task", "wrong"], "'--gpus-per-task'"),
    ("audit", ["--of", "0", "--worker", "0"], "Expected 1 command or more"),
    (
        "stylize",
        ["--worker", "0", "--of", "2", "--engine", "ray"],
        "leave it out with --engine ray",
    ),
    ("detect", ["--gpus-per-task", "nan", "--worker", "0", "--of", "2"], "a whole number"),
    ("bench", ["--rate", "wrong"], "'--rate'"),
    ("bench", ["--rate", "-2", "--dry-run"], "0 or more, got -2"),
]


@pytest.mark.parametrize(("verb", "words", "message"), REFUSED)
def test_what_is_no_value_is_one_sentence_before_anything_is_read(
    verb, words, message, tmp_path, capsys
):
    assert cli.run([verb, *VERBS[verb], str(tmp_path / "out"), *words]) == 2
    output = capsys.readouterr().err
    assert message in " ".join(output.split())
    assert "Usage" not in output
    assert not (tmp_path / "out").exists()
