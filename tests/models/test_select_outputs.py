"""A classifier of some of a network's outputs: which are compared, and how several become one."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.classes import Classes, LabelSet, imagenet, label_set, name_classes
from shiftproof.errors import ModelError
from shiftproof.models import Classifier, Preprocess
from shiftproof.models.classifiers.classifier import select_outputs

PREPROCESS = Preprocess((8, 8), 8)
GROUPS = ((4,), (0, 2), (1,))


def network(classes=5):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, classes))


def pictures(count=6):
    return np.random.default_rng(1).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def logits_of(count=40, width=1000):
    return np.random.default_rng(2).normal(0, 3, (count, width)).astype(np.float32)


class TestSelectOutputs:
    def test_by_hand(self):
        logits = np.array([[1, 2, 3, 9, 5], [7, 2, -3, 9, 0]], np.float32)
        expected = [[5, 3, 2], [0, 7, 2]]
        for given in (logits, torch.from_numpy(logits)):
            selected = select_outputs(given, GROUPS)
            assert type(selected) is type(given)
            assert selected.dtype == given.dtype
            assert selected.tolist() == expected
        assert select_outputs(logits, [[3], [1]]).tolist() == [[9, 2], [9, 2]]
        assert select_outputs(logits, None) is logits

    def test_half_precision_and_doubles_stay_what_they_are(self):
        for dtype in (torch.bfloat16, torch.float64):
            assert select_outputs(torch.ones(2, 5, dtype=dtype), GROUPS).dtype == dtype
        assert select_outputs(np.ones((2, 5)), GROUPS).dtype == np.float64

    def test_gradients_reach_the_best_of_each_group_alone(self):
        logits = torch.tensor([[1.0, 2, 3, 9, 5]], requires_grad=True)
        (select_outputs(logits, GROUPS) * torch.tensor([1.0, 10, 100])).sum().backward()
        assert logits.grad.tolist() == [[0, 100, 10, 0, 1]]
        assert torch.autograd.gradcheck(
            lambda values: select_outputs(values, GROUPS),
            torch.tensor([[0.1, 0.2, 0.5, 0.3, 0.4]], dtype=torch.float64, requires_grad=True),
        )

    def test_equals_share_the_gradient(self):
        logits = torch.tensor([[3.0, 1, 3, 0, 0]], requires_grad=True)
        select_outputs(logits, GROUPS).sum().backward()
        assert logits.grad.tolist() == [[0.5, 1, 0.5, 0, 1]]

    def test_no_number_in_a_group_is_no_number(self):
        logits = np.array([[np.nan, 1, 2, 3, 4]], np.float32)
        for given in (logits, torch.from_numpy(logits)):
            found = np.asarray(select_outputs(given, GROUPS))
            np.testing.assert_array_equal(found, [[4, np.nan, 1]])

    def test_an_empty_batch(self):
        assert select_outputs(np.zeros((0, 5), np.float32), GROUPS).shape == (0, 3)
        assert select_outputs(torch.zeros(0, 5), GROUPS).shape == (0, 3)


class TestPublishedScores:
    """Each rule as its authors wrote it, in other terms than ours."""

    @pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
    def test_a_and_r_cut_the_logits_to_the_200(self, name):
        logits, labels = logits_of(), label_set(name)
        mask = [key in labels.classes.wordnet_ids for key in imagenet().wordnet_ids]
        np.testing.assert_array_equal(select_outputs(logits, labels.outputs), logits[:, mask])

    def test_imagenet_d_translates_the_best_of_all_outputs(self):
        logits, labels = logits_of(), label_set("imagenet-d")
        vector = np.full(1000, -1)
        for place, group in enumerate(labels.outputs[:-1]):
            vector[list(group)] = place
        published = vector[logits.argmax(axis=1)]
        ours = select_outputs(logits, labels.outputs).argmax(axis=1)
        rest = len(labels.classes) - 1
        assert (published == -1).any()
        assert (published >= 0).any()
        np.testing.assert_array_equal(np.where(ours == rest, -1, ours), published)

    def test_objectnet_takes_the_highest_of_each_class_among_its_113(self):
        logits, labels = logits_of(), label_set("objectnet")
        projected = np.zeros((len(logits), 113))
        for place, group in enumerate(labels.outputs):
            projected[:, place] = np.max(logits[:, group], axis=1)
        np.testing.assert_array_equal(select_outputs(logits, labels.outputs), projected)
        best = {i for group in labels.outputs for i in group}
        masked = np.where([i in best for i in range(1000)], logits, -np.inf).argmax(axis=1)
        found = projected.argmax(axis=1)
        assert all(i in labels.outputs[k] for i, k in zip(masked, found, strict=True))


class TestClassifier:
    def test_predicts_the_selected_outputs_by_every_way(self):
        whole = Classifier(network(), PREPROCESS)
        some = Classifier(network(), PREPROCESS, ["x", "y", "z"], outputs=[4, (0, 2), [1]])
        assert some.outputs == GROUPS
        full = whole.predict(pictures())
        expected = np.stack([full[:, 4], np.maximum(full[:, 0], full[:, 2]), full[:, 1]], axis=1)
        found = some.predict(pictures())
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        batch = torch.from_numpy(pictures().transpose(0, 3, 1, 2).copy())
        np.testing.assert_allclose(some(batch).numpy(), expected, atol=1e-6)
        inputs = some.prepare(pictures())
        np.testing.assert_allclose(some.logits(inputs).detach(), expected, atol=1e-6)
        np.testing.assert_allclose(some.all_logits(inputs).detach(), full, atol=1e-6)
        assert some.predict(pictures(0)).shape == (0, 3)

    def test_a_function_has_outputs_too(self):
        def means(batch):
            return batch.mean(axis=(2, 3))

        preprocess = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))
        some = Classifier(means, preprocess, ["red", "other"], outputs=[0, (1, 2)])
        images = np.zeros((1, 8, 8, 3), np.uint8)
        images[..., 1], images[..., 2] = 51, 102
        np.testing.assert_allclose(some.predict(images), [[0, 0.4]], atol=1e-6)

    def test_without_names_the_groups_are_numbered(self):
        assert Classifier(network(), PREPROCESS, outputs=GROUPS).classes.names == ("0", "1", "2")
        assert Classifier(network(), PREPROCESS).outputs is None

    def test_numpy_integers_are_indices(self):
        some = Classifier(network(), PREPROCESS, outputs=np.array([4, 1]))
        assert some.outputs == ((4,), (1,))
        assert all(type(index) is int for group in some.outputs for index in group)

    @pytest.mark.parametrize(
        ("outputs", "says"),
        [
            ([0, 1], "outputs are given for 2 classes, but 3 are named"),
            ([0, (), 1], "expected at least one output for class 1"),
            ([0, 1, 0], "the output 0 stands for two classes or twice"),
            ([0, (1, 1), 2], "the output 1 stands for two classes or twice"),
            ([0, -1, 2], "expected outputs of 0 or more, got -1"),
            ([0, 1.5, 2], "expected an index or several for each class"),
            (["0", "1", "2"], "expected an index or several for each class"),
        ],
    )
    def test_outputs_that_do_not_fit_are_refused(self, outputs, says):
        with pytest.raises(ModelError, match=says):
            Classifier(network(), PREPROCESS, ["x", "y", "z"], outputs=outputs, name="net")

    def test_an_output_that_the_model_has_not_is_refused_at_the_first_prediction(self):
        some = Classifier(network(), PREPROCESS, outputs=[0, 5], name="net")
        with pytest.raises(ModelError, match=r"net: the model gives 5 outputs, but output 5 is"):
            some.predict(pictures())
        Classifier(network(), PREPROCESS, outputs=[0, 4]).predict(pictures())

    def test_settings_tell_the_outputs(self):
        whole, some, other = (
            Classifier(network(), PREPROCESS, ["x", "y", "z"], outputs=outputs, name="net").settings
            for outputs in ([0, 1, 2], GROUPS, [4, (0, 1), 2])
        )
        assert json.loads(json.dumps(some)) == some
        assert some["outputs"]["count"] == 4
        assert whole["outputs"]["count"] == 3
        assert len({s["outputs"]["fingerprint"] for s in (whole, some, other)}) == 3
        assert Classifier(network(), PREPROCESS).settings["outputs"] is None


class TestRestricted:
    def test_shares_the_tensors_and_has_the_label_sets_classes(self):
        whole = Classifier(network(1000), PREPROCESS, imagenet(), name="net")
        labels = label_set("imagenet-r")
        some = whole.restrict(labels)
        assert some.classes is labels.classes
        assert (some.name, some.device, some.preprocess) == ("net", "cpu", PREPROCESS)
        full = whole.predict(pictures())
        columns = [output for (output,) in labels.outputs]
        np.testing.assert_array_equal(some.predict(pictures()), full[:, columns])
        with torch.no_grad():
            whole.module[1].bias += 1
        np.testing.assert_allclose(some.predict(pictures()), full[:, columns] + 1, atol=1e-5)
        assert some.settings["fingerprint"] == whole.settings["fingerprint"]

    def test_a_share_of_a_share(self):
        parent = Classes(("x", "y", "z"), title="three")
        some = Classifier(network(), PREPROCESS, parent, outputs=GROUPS)
        labels = LabelSet("pair", name_classes(["p", "q"]), ((2,), (1, 0)), parent)
        assert some.restrict(labels).outputs == ((1,), (0, 2, 4))

    def test_a_label_set_of_other_classes_is_refused(self):
        for classes in (None, list("abcde")):
            with pytest.raises(ModelError, match=r"imagenet-r is a subset .* imagenet-1k.*\(5\)"):
                Classifier(network(), PREPROCESS, classes).restrict(label_set("imagenet-r"))
