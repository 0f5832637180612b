"""Accuracies on several test sets, beside an audit of embeddings."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from shiftproof import Classifier, Preprocess
from shiftproof.classes import imagenet, label_set
from shiftproof.data import ImageFolder
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    LabelError,
    RunMismatchError,
    UnknownNameError,
)
from shiftproof.evaluate import evaluate, find_labels
from shiftproof.runs import load_run
from shiftproof.similarity import audit, open_embeddings
from support.tiny import NAMES, make_model, mean_colour, write_photos

SMALL = Preprocess((8, 8), 8, mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    return {
        "near": write_photos(root / "near", per_class=14, side=20),
        "far": write_photos(root / "far", per_class=3, side=28),
    }


def answers(model, folder):
    """What a model says of each image, read and asked one by one."""
    data = ImageFolder(folder, model.classes)
    found = {}
    for sample in data.samples:
        image = model.preprocess.geometry(data.read(sample))
        found[sample.id] = int(model.predict(image[None]).argmax()) == sample.label
    return found


def other_model():
    return Classifier(lambda x: mean_colour(x)[:, [1, 2, 0]], SMALL, NAMES, name="turned")


def run(photos, out, **options):
    models = {"mean": make_model(), "turned": other_model()}
    return evaluate(models, photos, out=out, workers=0, show_progress=False, **options)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    return run(photos, tmp_path_factory.mktemp("run") / "run")


def test_accuracies_are_the_share_of_right_answers_of_models_of_any_size(finished, photos):
    scores = finished.scores
    for model, scored in zip((make_model(), other_model()), scores.models, strict=True):
        shares = []
        for name, folder in photos.items():
            right = list(answers(model, folder).values())
            figure = scored.sets[name].accuracy
            assert figure.value == pytest.approx(np.mean(right))
            assert figure.low <= figure.value <= figure.high
            shares.append(np.mean(right))
        assert scored.mean.value == pytest.approx(np.mean(shares))
    first, second = scores.models
    assert first.sets["near"].accuracy.value != second.sets["near"].accuracy.value
    [change] = scores.differences
    assert (change.name, change.against) == ("turned", "mean")
    expected = second.sets["far"].accuracy.value - first.sets["far"].accuracy.value
    assert change.sets["far"].accuracy.value == pytest.approx(expected)
    assert [one.used for one in scores.sets] == [42, 9]


def test_intervals_are_those_of_binomial_shares(finished):
    figure = finished.scores.models[0].sets["near"].accuracy
    # Standard error of a share over 42 images; the bootstrap comes near to it.
    error = np.sqrt(figure.value * (1 - figure.value) / 42)
    assert (figure.high - figure.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.2)


def test_test_sets_of_one_size_are_resampled_independently(photos, tmp_path):
    twice = {"one": photos["near"], "two": photos["near"]}
    [model] = evaluate(make_model(), twice, out=tmp_path / "run", workers=0).scores.models
    widths = [each.accuracy.high - each.accuracy.low for each in model.sets.values()]
    # The mean of two independent figures has a standard error smaller by the root of two.
    ratio = (model.mean.high - model.mean.low) / np.mean(widths)
    assert ratio == pytest.approx(1 / np.sqrt(2), abs=0.12)


def test_it_goes_on_where_it_stopped(finished, photos, tmp_path, monkeypatch):
    run(photos, tmp_path / "run")
    (tmp_path / "run" / "scores.json").unlink()
    (tmp_path / "run" / "records" / "turned" / "far.parquet").unlink()
    asked = []
    original = ImageFolder.read
    monkeypatch.setattr(
        ImageFolder, "read", lambda self, sample: asked.append(sample) or original(self, sample)
    )
    run(photos, tmp_path / "run")
    assert len(asked) == 9
    same = (tmp_path / "run" / "scores.json").read_bytes()
    assert same == finished.folder.scores_file.read_bytes()
    with pytest.raises(RunMismatchError, match="batch size"):
        run(photos, tmp_path / "run", batch_size=7)
    opened = load_run(tmp_path / "run")
    assert opened.scores == finished.scores
    table = opened.records(sets=["far"])
    assert set(table["model"].to_pylist()) == {model.name for model in finished.scores.models}
    assert set(table["set"].to_pylist()) == {"far"}


class TestLabelSets:
    def test_names_of_published_sets(self):
        known = {name: find_labels(name) for name in ("R", "imagenet-a", "imagenet_r", "sketch")}
        assert known == {
            "R": "imagenet-r", "imagenet-a": "imagenet-a", "imagenet_r": "imagenet-r",
            "sketch": None,
        }  # fmt: skip
        assert find_labels("ObjectNet") == "objectnet"
        assert find_labels("val") is None

    @pytest.fixture
    def folder(self, tmp_path):
        """Two images of a class of ImageNet-A."""
        key = label_set("imagenet-a").classes.wordnet_ids[3]
        (tmp_path / "photos" / key).mkdir(parents=True)
        for number in range(2):
            image = np.full((8, 8, 3), 90 + number, np.uint8)
            Image.fromarray(image).save(tmp_path / "photos" / key / f"{number}.png")
        return tmp_path / "photos"

    def test_a_set_with_a_share_of_the_classes_is_answered_among_these(self, folder, tmp_path):
        target = imagenet().index(folder.joinpath().iterdir().__next__().name)
        outside = next(
            i for i in range(1000) if i not in set(sum(label_set("imagenet-a").outputs, ()))
        )

        def network(inputs):
            logits = np.zeros((len(inputs), 1000), np.float32)
            logits[:, target], logits[:, outside] = 1, 2
            return logits

        model = Classifier(network, SMALL, imagenet(), name="net")
        among = evaluate(model, {"a": folder}, out=tmp_path / "1", workers=0).scores
        of_all = evaluate(
            model, {"a": folder}, out=tmp_path / "2", labels={"a": "all"}, workers=0
        ).scores
        assert among.models[0].sets["a"].accuracy.value == 1
        assert of_all.models[0].sets["a"].accuracy.value == 0
        assert (among.sets[0].classes, among.sets[0].labels) == (200, "imagenet-a")
        assert (of_all.sets[0].classes, of_all.sets[0].labels) == (1000, None)

    def test_a_name_alone_restricts_no_other_classes(self, photos, tmp_path):
        scores = evaluate(make_model(), {"r": photos["far"]}, out=tmp_path / "1", workers=0).scores
        assert scores.sets[0].labels is None


def test_bad_input(photos, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="at least one test set"):
        evaluate(make_model(), {}, out=out)
    with pytest.raises(InputError, match="cannot be called 'a/b'"):
        evaluate(make_model(), {"a/b": photos["far"]}, out=out)
    with pytest.raises(UnknownNameError, match=r"Unknown test set 'fra'.*Did you mean 'far'"):
        evaluate(make_model(), {"far": photos["far"]}, out=out, labels={"fra": "all"})
    with pytest.raises(InputError, match="has no labels, so no accuracy"):
        evaluate(make_model(), {"far": photos["far"] / "red"}, out=out)
    other = Classifier(lambda x: mean_colour(x)[:, :2], SMALL, ["red", "green"])
    with pytest.raises(LabelError, match="evaluate them one by one"):
        evaluate({"one": make_model(), "two": other}, photos, out=out)
    moved = Classifier(mean_colour, SMALL, ["blue", "green", "red"])
    with pytest.raises(
        LabelError, match="two lists the classes of the first model in another order"
    ):
        evaluate({"one": make_model(), "two": moved}, photos, out=out)
    (tmp_path / "none.csv").write_text("path,label\nnothing.png,red\n")
    with pytest.raises(InputError, match=r"None of the images of none\.csv can be read"):
        evaluate(make_model(), {"far": tmp_path / "none.csv"}, out=out)
    assert not out.exists()


# ---------------------------------------------------------------- beside an audit


def embed_by_hand(folder, ids, seed):
    rows = np.random.default_rng(seed).normal(size=(len(ids), 6)).astype(np.float32) + 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    np.save(folder / "img_emb" / "img_emb_0.npy", rows)
    pq.write_table(pa.table({"image_path": ids}), folder / "metadata" / "metadata_0.parquet")
    return rows


@pytest.fixture(scope="module")
def audited(photos, tmp_path_factory):
    root = tmp_path_factory.mktemp("audit")
    ids = {name: list(answers(make_model(), folder)) for name, folder in photos.items()}
    near = embed_by_hand(root / "near", ids["near"], 0)
    embed_by_hand(root / "far", [f"elsewhere/{name}" for name in ids["far"]], 1)
    train = embed_by_hand(root / "train", [f"{n}.jpg" for n in range(50)], 2)
    opened = {
        # Called in full, and of the second only the rows' files are named as the images.
        "imagenet-near": open_embeddings(root / "near", normalize=True),
        "far": open_embeddings(root / "far", normalize=True),
    }
    audit(open_embeddings(root / "train", normalize=True), opened, root / "audit")
    return root / "audit", ids["near"], (near @ train.T).max(axis=1)


def test_an_audit_stands_beside_the_accuracies(audited, photos, tmp_path):
    path, ids, similarity = audited
    scores = run({**photos, "other": photos["far"]}, tmp_path / "run", audit=path).scores
    content = json.loads((path / "scores.json").read_text())["sets"][0]
    found = scores.audit.sets["near"]
    assert found.test == "imagenet-near"
    assert found.similarity.value == content["similarity"]["value"]
    assert found.similarity.value == pytest.approx(similarity.mean(), abs=1e-5)
    assert (found.matched, found.rows) == (42, 42)
    assert scores.audit.missing == ("other",)
    curve = next(each for each in scores.audit.by_similarity if each.model == "mean")
    right = np.array([answers(make_model(), photos["near"])[name] for name in ids])
    order = np.argsort(similarity, kind="stable")
    expected = [right[part].mean() for part in np.array_split(order, 4)]
    assert [one.accuracy.value for one in curve.bins] == pytest.approx(expected)
    assert curve.advantage == pytest.approx(roc_auc_score(right, similarity))
    # Nine images are too few for groups; file names repeat, so none of them is matched.
    assert scores.audit.sets["far"].matched == 0
    assert {each.test for each in scores.audit.by_similarity} == {"near"}


def test_what_is_no_audit_of_these_sets(audited, finished, photos, tmp_path):
    with pytest.raises(InputError, match="kind 'evaluation'; expected an audit of embeddings"):
        run(photos, tmp_path / "run", audit=finished.path)
    with pytest.raises(InputError, match=r"none of the test sets x; it has imagenet-near, far"):
        run({"x": photos["far"]}, tmp_path / "run", audit=audited[0])
    with pytest.raises(InputError, match="holds no run"):
        run(photos, tmp_path / "run", audit=tmp_path / "none")
    assert not (tmp_path / "run").exists()


def test_damaged_scores_name_the_place(finished, photos, tmp_path):
    again = run(photos, tmp_path / "run")
    file = again.folder.scores_file
    content = json.loads(file.read_text())
    del content["models"][1]["sets"]["far"]
    file.write_text(json.dumps(content))
    with pytest.raises(BrokenFileError, match="an accuracy on each of the test sets of 'turned'"):
        _ = again.scores
