"""Self-learning against plain training loops with torch's own optimiser, layers and losses."""

import copy
import math

import numpy as np
import pytest
import scipy.special
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from shiftproof.adapt import SelfLearning, make_adapter
from shiftproof.errors import ImageError, InputError, ModelError, UnknownNameError
from shiftproof.models import Classifier, Preprocess
from support.small_networks import (
    classifier,
    convolutional,
    noise,
    pictures,
    portrait,
    with_layer_norm,
)

PER_IMAGE = 1e-3 / 128
BATCHES = [noise(6, seed=1), noise(6, seed=2), noise(3, seed=3)]


def training_batch_norm(module):
    """Batch norm in training mode, which uses the batch's statistics, and all else in evaluation."""
    module = copy.deepcopy(module).eval()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train()
    return module


def affine(module):
    kinds = (nn.BatchNorm2d, nn.LayerNorm)
    return [p for layer in module.modules() if isinstance(layer, kinds) for p in layer.parameters()]


def reference_loss(name, logits, teacher):
    """The losses by torch's own functions."""
    if name == "ent":
        return torch.distributions.Categorical(logits=logits).entropy().mean()
    if name == "hard":
        return F.cross_entropy(logits, teacher.argmax(1))
    if name == "soft":
        return F.cross_entropy(logits, teacher.softmax(1))
    p = logits.softmax(1)[torch.arange(len(logits)), teacher.argmax(1)]
    return ((1 - p**0.8) / 0.8).mean()


def plain_loop(
    module, batches, name, *, lr=None, momentum=0.0, prepare=training_batch_norm,
    learn=affine, epochs=1, epoch_teacher=None, taught=None,
):  # fmt: skip
    """Train as one would by hand; return the logits before each step, and the model."""
    student, teacher = prepare(module), prepare(module if taught is None else taught)
    epoch_teacher = name in ("hard", "soft") if epoch_teacher is None else epoch_teacher
    optimizer = torch.optim.SGD(learn(student), lr=1.0, momentum=momentum)
    outputs = []
    for _ in range(epochs):
        for batch in batches:
            optimizer.param_groups[0]["lr"] = PER_IMAGE * len(batch) if lr is None else lr
            logits = student(batch)
            with torch.no_grad():
                answers = teacher(batch) if epoch_teacher else logits.detach()
            optimizer.zero_grad()
            reference_loss(name, logits, answers).backward()
            optimizer.step()
            outputs.append(logits.detach())
        teacher.load_state_dict(student.state_dict())
    return outputs, student


def run(adapter, batches, epochs=1):
    outputs = []
    for _ in range(epochs):
        outputs += [adapter(batch) for batch in batches]
        adapter.end_epoch()
    return outputs


def check(adapter, expected, student, batches=BATCHES, epochs=1):
    for got, wanted in zip(run(adapter, batches, epochs), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    learnt = dict(adapter.merge().named_parameters())
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(learnt[name], parameter, rtol=1e-5, atol=1e-6)


LOSSES = ["rpl", "ent", "hard", "soft"]


class TestAgainstAPlainLoop:
    @pytest.mark.parametrize("momentum", [0, 0.9])
    @pytest.mark.parametrize("name", LOSSES)
    def test_two_epochs(self, name, momentum):
        """A large rate, so that a wrong gradient, teacher or momentum shows."""
        first = convolutional()
        first[5].bias.data.add_(torch.arange(6) / 10)
        expected, student = plain_loop(
            first, BATCHES, name, lr=0.1, momentum=momentum, epochs=2, taught=convolutional()
        )
        adapter = SelfLearning(convolutional(), loss=name, lr=0.1, momentum=momentum, prior=0)
        state = adapter.state()
        state["parameter/5.bias"] += torch.arange(6) / 10
        adapter.load_state(state)
        check(adapter, expected, student, epochs=2)
        moved = (student[5].bias - first[5].bias).abs().max()
        assert moved > 1e-3

    def test_soft_labels_move_nothing_while_the_teacher_agrees(self):
        """The gradient in the logits is p_student - p_teacher, and both start as the source."""
        adapter = SelfLearning(convolutional(), loss="soft", lr=1.0)
        run(adapter, BATCHES, epochs=2)
        for name, parameter in convolutional().named_parameters():
            learnt = adapter.merge().get_parameter(name)
            torch.testing.assert_close(learnt, parameter, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", ["rpl", "hard"])
    def test_a_network_with_layer_norm(self, name):
        expected, student = plain_loop(with_layer_norm(), BATCHES, name, lr=0.1, epochs=2)
        check(SelfLearning(with_layer_norm(), loss=name, lr=0.1), expected, student, epochs=2)

    def test_the_paper_s_rate_follows_the_images_in_the_batch(self):
        """1e-3 at a batch of 128; the last batch is smaller. Seen in the size of single steps."""
        for count in (6, 3):
            batch = noise(count, seed=1)
            adapter = SelfLearning(convolutional(), preset="paper", loss="ent")
            before = [p.detach().double().clone() for p in adapter.parameters()]
            adapter(batch)
            moved = [
                p.detach().double() - b for p, b in zip(adapter.parameters(), before, strict=True)
            ]
            student = training_batch_norm(convolutional())
            reference_loss("ent", student(batch), None).backward()
            for step, parameter in zip(moved, affine(student), strict=True):
                expected = -PER_IMAGE * count * parameter.grad.double()
                torch.testing.assert_close(step, expected, rtol=1e-2, atol=3e-7)
            assert max(float(step.abs().max()) for step in moved) > 1e-6

    def test_answers_after_the_step(self):
        adapter = SelfLearning(convolutional(), prior=0, loss="ent", lr=0.1, answers="after")
        for position in range(len(BATCHES)):
            _, student = plain_loop(convolutional(), BATCHES[: position + 1], "ent", lr=0.1)
            batch = BATCHES[position]
            result = adapter(batch)
            with torch.no_grad():
                torch.testing.assert_close(result, student(batch), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(adapter.merge()(batch), result, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(("name", "teacher"), [("rpl", "epoch"), ("hard", "step")])
    def test_the_other_teacher(self, name, teacher):
        expected, student = plain_loop(
            convolutional(), BATCHES, name, lr=0.1, epochs=2, epoch_teacher=teacher == "epoch"
        )
        adapter = SelfLearning(convolutional(), prior=0, loss=name, lr=0.1, teacher=teacher)
        check(adapter, expected, student, epochs=2)

    @pytest.mark.parametrize(
        ("options", "learn"),
        [
            ({"parameters": "all"}, lambda m: list(m.parameters())),
            ({"parameters": "last"}, lambda m: list(m[-1].parameters())),
            ({"layers": "last-50%"}, lambda m: list(m[5].parameters())),
            ({"layers": ["1"]}, lambda m: list(m[1].parameters())),
            ({"parameters": lambda m: {"4.weight": m[4].weight}}, lambda m: [m[4].weight]),
        ],
        ids=["all", "last", "last half", "by name", "function"],
    )
    def test_what_learns(self, options, learn):
        expected, student = plain_loop(convolutional(), BATCHES, "ent", lr=0.05, learn=learn)
        check(
            SelfLearning(convolutional(), prior=0, loss="ent", lr=0.05, **options),
            expected,
            student,
        )

    def test_an_infinite_prior_learns_on_the_source_s_statistics(self):
        expected, student = plain_loop(
            convolutional(), BATCHES, "rpl", lr=0.1, prepare=lambda m: copy.deepcopy(m).eval()
        )
        adapter = SelfLearning(convolutional(), lr=0.1, prior=math.inf)
        check(adapter, expected, student)
        assert torch.equal(adapter.merge()[1].running_mean, convolutional()[1].running_mean)

    def test_with_a_prior_the_statistics_are_mixed(self):
        """One batch norm, by hand: n images and N = 4."""
        module = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        module[0].running_mean.copy_(torch.tensor([0.5, -1, 0]))
        module[0].running_var.copy_(torch.tensor([2.0, 1, 3]))
        batch = noise(6)
        values, source = batch.double(), module[0]
        mean = 0.4 * source.running_mean.double() + 0.6 * values.mean((0, 2, 3))
        variance = 0.4 * source.running_var.double()
        variance = variance + 0.6 * values.var((0, 2, 3), correction=0)
        weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        normal = (values - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        logits = (normal * weight[:, None, None] + bias[:, None, None]).mean((2, 3))
        reference_loss("ent", logits, None).backward()
        adapter = SelfLearning(module, loss="ent", lr=1.0, prior=4)
        torch.testing.assert_close(adapter(batch).double(), logits.detach(), rtol=1e-5, atol=1e-5)
        learnt = adapter.merge()[0]
        torch.testing.assert_close(learnt.weight.double(), (weight - weight.grad).detach())
        torch.testing.assert_close(learnt.bias.double(), (bias - bias.grad).detach())
        torch.testing.assert_close(learnt.running_mean.double(), mean)
        torch.testing.assert_close(learnt.running_var.double(), variance)

    def test_the_gradient_flows_through_the_batch_s_share_of_the_statistics(self):
        """Two batch norms; autograd through the mixture with N = 4, written out."""
        module, batch = convolutional().double(), BATCHES[0].double()
        learned = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}

        def normalize(values, name):
            layer = module.get_submodule(name)
            axes = (0, 2, 3)
            mean = 0.4 * layer.running_mean + 0.6 * values.mean(axes)
            variance = 0.4 * layer.running_var + 0.6 * values.var(axes, correction=0)
            normal = (values - mean[:, None, None]) / (variance + layer.eps).sqrt()[:, None, None]
            weight, bias = (learned[f"{name}.{part}"] for part in ("weight", "bias"))
            return normal * weight[:, None, None] + bias[:, None, None]

        values = F.relu(normalize(module[0](batch), "1"))
        values = F.relu(normalize(module[4](values), "5")).mean((2, 3))
        reference_loss("ent", module[9](values), None).backward()
        adapter = SelfLearning(convolutional(), loss="ent", lr=1.0, prior=4)
        adapter(BATCHES[0])
        for name, parameter in adapter.merge().named_parameters():
            if name.startswith(("1.", "5.")):
                expected = (learned[name] - learned[name].grad).detach().float()
                torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-5)
        assert learned["1.weight"].grad.abs().max() > 1e-2

    def test_the_paper_s_preset(self):
        expected, student = plain_loop(convolutional(), BATCHES, "rpl")
        check(SelfLearning(convolutional(), preset="paper"), expected, student)
        adapter = make_adapter("rpl:preset=paper", classifier())
        assert (adapter.prior, adapter.lr, adapter.settings["preset"]) == (0, "auto", "paper")
        assert SelfLearning(convolutional()).prior == "auto"

    def test_a_threshold_leaves_unsure_rows_out_of_the_mean(self):
        batch = BATCHES[0]
        student = training_batch_norm(convolutional())
        logits = student(batch)
        sure = torch.from_numpy(scipy.special.softmax(logits.detach().numpy(), 1).max(1))
        threshold = float(sure.median())
        rows = sure >= threshold
        assert 0 < rows.sum() < len(batch)
        F.cross_entropy(logits[rows], logits[rows].argmax(1)).backward()
        adapter = SelfLearning(
            convolutional(), prior=0, loss="hard", teacher="step", lr=1.0, threshold=threshold
        )
        adapter(batch)
        expected = student[1].weight - student[1].weight.grad
        torch.testing.assert_close(adapter.merge()[1].weight, expected, rtol=1e-5, atol=1e-6)

    def test_nothing_is_learnt_where_no_row_is_sure(self):
        adapter = SelfLearning(convolutional(), prior=0, lr=1.0, threshold=1.0)
        with torch.no_grad():
            expected = training_batch_norm(convolutional())(BATCHES[0])
        torch.testing.assert_close(adapter(BATCHES[0]), expected)
        assert torch.equal(adapter.merge()[1].weight, convolutional()[1].weight)
        assert not adapter.events

    def test_a_loss_of_ones_own(self):
        def margin(logits, teacher):
            assert not teacher.requires_grad
            best = logits.topk(2).values
            return best[:, 1] - best[:, 0]

        student = training_batch_norm(convolutional())
        margin(*[logits := student(BATCHES[0]), logits.detach()]).mean().backward()
        adapter = SelfLearning(convolutional(), prior=0, loss=margin, lr=0.1)
        adapter(BATCHES[0])
        expected = student[5].bias - 0.1 * student[5].bias.grad
        torch.testing.assert_close(adapter.merge()[5].bias, expected)
        assert "margin" in adapter.settings["loss"]

    def test_losses_and_choices_of_one_name_are_told_apart(self):
        def make(factor):
            def loss(logits, teacher):
                return factor * logits.var(1)

            def choose(module):
                return dict(list(module.named_parameters())[:factor])

            adapter = SelfLearning(convolutional(), loss=loss, parameters=choose, lr=0.1)
            return adapter.settings["loss"], adapter.settings["parameters"]

        (one, first), (same, again), (other, second) = make(1), make(1), make(2)
        assert one == same != other
        assert first == again != second

    def test_images_of_a_classifier_are_its_normalised_input(self):
        inputs = torch.from_numpy(pictures()).permute(0, 3, 1, 2) / 127.5 - 1
        expected, _ = plain_loop(convolutional(), [inputs, inputs], "ent", lr=0.1)
        adapter = SelfLearning(classifier(), prior=0, loss="ent", lr=0.1)
        for logits in expected:
            np.testing.assert_allclose(
                adapter.predict(pictures()), logits.numpy(), rtol=1e-4, atol=1e-5
            )


class TestMerged:
    def test_it_has_the_biased_statistics_of_the_last_batch(self):
        adapter = SelfLearning(convolutional(), prior=0, lr=0.1)
        for batch in BATCHES:
            adapter(batch)
        values = convolutional()[0](BATCHES[-1]).detach().double().numpy()
        first = adapter.merge()[1]
        np.testing.assert_allclose(first.running_mean.numpy(), values.mean((0, 2, 3)), rtol=1e-4)
        np.testing.assert_allclose(first.running_var.numpy(), values.var((0, 2, 3)), rtol=1e-4)

    def test_fresh_memory_may_hold_anything(self):
        """Torch fills it with NaN in this mode: it must not get into the statistics."""
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            adapter = SelfLearning(convolutional())
            adapter(BATCHES[0])
        finally:
            torch.use_deterministic_algorithms(before)
        assert not adapter.events
        assert all(torch.isfinite(value).all() for value in adapter.merge().state_dict().values())

    def test_a_layer_that_runs_twice_cannot_be_merged(self):
        norm = nn.BatchNorm2d(3)
        module = nn.Sequential(
            norm, nn.Conv2d(3, 3, 1), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        adapter = SelfLearning(module)
        adapter(noise())
        with pytest.raises(ModelError, match="'0' ran several times"):
            adapter.merge()
        adapter.reset()
        adapter.merge()


class TestBrokenBatches:
    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"loss": "ent", "momentum": 0.9},
            {"loss": "hard", "threshold": 0.3},
            {"loss": "soft", "prior": 16},
            {"prior": "auto", "answers": "after"},
            {"parameters": "all"},
        ],
        ids=str,
    )
    def test_they_poison_nothing(self, options, value):
        """1e30: the variance overflows, and the loss and its gradient are finite all the same."""
        adapter, other = (SelfLearning(convolutional(), lr=0.01, **options) for _ in range(2))
        broken = BATCHES[1].clone()
        broken[0, 0, 3, 3] = value
        for one in (adapter, other):
            one(BATCHES[0])
        before = portrait(adapter)
        outputs = adapter(broken)
        assert portrait(adapter) == before
        [event] = adapter.events
        assert (event.kind, event.batch) == ("skipped", 1)
        # The others of its batch are predicted, with the source's statistics.
        assert torch.isfinite(outputs[1:]).all()
        assert torch.equal(adapter(BATCHES[2]), other(BATCHES[2]))

    def test_an_infinite_prior_skips_them_too(self):
        adapter = SelfLearning(convolutional(), lr=0.01, prior=math.inf)
        before = portrait(adapter)
        broken = BATCHES[1].clone()
        broken[0, 0, 3, 3] = math.nan
        adapter(broken)
        assert portrait(adapter) == before
        assert len(adapter.events) == 1

    def test_frozen_they_do_not_reach_their_neighbours(self):
        broken = BATCHES[1].clone()
        broken[0, 0, 3, 3] = math.nan
        adapter = SelfLearning(convolutional(), lr=0.01)
        with adapter.frozen():
            outputs = adapter(broken)
        with torch.no_grad():
            torch.testing.assert_close(outputs[1:], convolutional()(BATCHES[1])[1:])

    @pytest.mark.parametrize("options", [{}, {"prior": "auto"}, {"prior": 16}], ids=str)
    def test_a_batch_of_one_on_a_one_pixel_map(self, options):
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten()
        ).eval()
        adapter = SelfLearning(module, lr=0.1, **options)
        result = adapter(noise(1))
        assert torch.isfinite(result).all()
        if not options:
            torch.testing.assert_close(result, module(noise(1)).detach())
        assert all(torch.isfinite(value).all() for value in adapter.merge().state_dict().values())


class TestAutocast:
    @pytest.mark.parametrize("parameters", ["affine", "last", "all"])
    @pytest.mark.parametrize("loss", LOSSES)
    def test_steps_are_finite_and_near(self, loss, parameters):
        exact = SelfLearning(convolutional(), loss=loss, lr=0.05, parameters=parameters)
        adapter = SelfLearning(convolutional(), loss=loss, lr=0.05, parameters=parameters)
        for batch in BATCHES:
            expected = exact(batch)
            with torch.autocast("cpu", torch.bfloat16):
                result = adapter(batch)
            torch.testing.assert_close(result.float(), expected, rtol=0.1, atol=0.3)
        assert not adapter.events
        assert all(p.dtype == torch.float32 for p in adapter.parameters())

    def test_one_context_around_the_stream_does_not_hide_what_was_learnt(self):
        """Autocast keeps the bfloat16 copy of a weight until its context ends."""
        alone, run_batch = (
            SelfLearning(convolutional(), loss="ent", lr=1.0, parameters="last") for _ in range(2)
        )
        expected = []
        for batch in BATCHES:
            with torch.autocast("cpu", torch.bfloat16):
                expected.append(alone(batch))
        with torch.autocast("cpu", torch.bfloat16):
            for batch, logits in zip(BATCHES, expected, strict=True):
                assert torch.equal(run_batch(batch), logits)
            run_batch.reset()
            assert torch.equal(run_batch(BATCHES[0]), expected[0])


class TestModels:
    @pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
    def test_networks_with_layer_norm(self, name):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options = {"img_size": 32} if name.startswith("vit") else {"drop_path_rate": 0.5}
            module = timm.create_model(name, num_classes=5, **options)
        adapter = SelfLearning(module, loss="ent", lr=0.01)
        batch = noise(4, 32)
        with torch.no_grad():
            expected = copy.deepcopy(module).eval()(batch)
        torch.testing.assert_close(adapter(batch), expected, rtol=1e-4, atol=1e-5)
        assert float(adapter(batch).sub(expected).abs().max()) > 1e-5
        norms = [layer for layer in module.modules() if isinstance(layer, nn.LayerNorm)]
        assert adapter.settings["learnt"] == 2 * len(norms) > 10

    def test_frozen_batch_norm_has_nothing_to_learn_but_its_statistics(self):
        module = torchvision.models.resnet18(
            num_classes=5, norm_layer=torchvision.ops.FrozenBatchNorm2d
        )
        with pytest.raises(ModelError, match="frozen batch norm are constants"):
            SelfLearning(module)
        adapter = SelfLearning(module, parameters="last")
        assert torch.isfinite(adapter(noise(4, 32))).all()
        assert adapter.settings["learnt"] == 2

    def test_a_network_of_which_a_part_is_unused(self):
        module = convolutional()
        module.add_module("unused", nn.Identity())
        module.unused.norm = nn.BatchNorm2d(3)
        adapter = SelfLearning(module, loss="ent", lr=0.1)
        adapter(noise())
        assert torch.equal(adapter.merge().unused.norm.weight, torch.ones(3))

    def test_a_recurrent_layer_learns(self):
        """It keeps a second list of its parameters, which must be the copy's."""

        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell = nn.LSTM(48, 6, batch_first=True)
                self.head = nn.Linear(6, 5)

            def forward(self, x):
                return self.head(self.cell(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = Recurrent()
        adapter = SelfLearning(module, loss="ent", lr=1.0, parameters=lambda m: {
            f"cell.{name}": value for name, value in m.cell.named_parameters()
        })  # fmt: skip
        first = adapter(noise())
        with adapter.frozen():
            second = adapter(noise())
        assert not torch.equal(first, second)
        torch.testing.assert_close(adapter.merge()(noise()), second)

    @pytest.mark.parametrize("weights_too", [True, False])
    def test_made_in_inference_mode(self, weights_too):
        expected = SelfLearning(convolutional(), loss="ent", lr=0.1)
        module = convolutional()
        with torch.inference_mode():
            adapter = SelfLearning(convolutional() if weights_too else module, loss="ent", lr=0.1)
            results = [adapter(noise()), adapter(noise())]
        for result in results:
            torch.testing.assert_close(result.clone(), expected(noise()))

    def test_images_of_another_size_in_the_stream(self):
        adapter = SelfLearning(convolutional(), prior=0, loss="ent", lr=0.1)
        expected, student = plain_loop(
            convolutional(), [noise(6), noise(4, size=11)], "ent", lr=0.1
        )
        check(adapter, expected, student, [noise(6), noise(4, size=11)])

    def test_a_classifier_refuses_them_and_learns_nothing(self):
        adapter = SelfLearning(classifier(), lr=0.1)
        adapter.predict(pictures())
        before = portrait(adapter)
        with pytest.raises(ImageError, match="images of 16 x 16"):
            adapter.predict(np.zeros((2, 11, 11, 3), np.uint8))
        assert portrait(adapter) == before

    def test_an_empty_batch_changes_nothing(self):
        adapter = SelfLearning(classifier(), lr=0.1)
        adapter.predict(pictures())
        before = portrait(adapter)
        assert adapter.predict(pictures(0)).shape == (0, 5)
        assert adapter(torch.zeros(0, 3, 16, 16)).shape == (0, 5)
        assert portrait(adapter) == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"lr": -1}, "lr: expected a number, 0 or more, got -1"),
            ({"lr": math.inf}, "lr: expected"),
            ({"lr": math.nan}, "lr: expected"),
            ({"lr": "fast"}, "lr: expected"),
            ({"momentum": 1}, "momentum: expected a number, 0 to below 1"),
            ({"q": 1.5}, "q: expected a number, 0 to 1"),
            ({"threshold": -0.1}, "threshold: expected"),
            ({"prior": -1}, "prior: expected"),
            ({"layers": "last-50%", "parameters": "last"}, "layers: chooses among norm layers"),
            ({"layers": "last-3"}, "asks for 3 of 2 layers"),
            ({"preset": "paper", "lr": 0.1}, "preset='paper' sets lr and prior"),
            ({"preset": "paper", "prior": 16}, "preset='paper' sets lr and prior"),
        ],
    )
    def test_options_out_of_range(self, options, words):
        with pytest.raises(InputError, match=words):
            SelfLearning(convolutional(), **options)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"loss": "entropy"}, "Unknown loss 'entropy'"),
            ({"teacher": "steps"}, "Did you mean 'step'"),
            ({"answers": "befor"}, "Did you mean 'before'"),
            ({"parameters": "norms"}, "Unknown parameters"),
            ({"layers": ["bn1"]}, "Unknown layer 'bn1'"),
            ({"preset": "papre"}, "Did you mean 'paper'"),
        ],
    )
    def test_unknown_names(self, options, words):
        with pytest.raises(UnknownNameError, match=words):
            SelfLearning(convolutional(), **options)

    def test_models_without_norm_layers_and_fused_ones(self):
        with pytest.raises(ModelError, match=r"no norm layer .* folded .* parameters='last'"):
            SelfLearning(nn.Sequential(nn.Conv2d(3, 5, 16), nn.Flatten()))
        fused = torch.nn.utils.fusion.fuse_conv_bn_eval(convolutional()[0], convolutional()[1])
        with pytest.raises(ModelError, match="no norm layer"):
            SelfLearning(nn.Sequential(fused, nn.Flatten()))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        with pytest.raises(ModelError, match=r"float\(\), and torch.autocast"):
            SelfLearning(convolutional().to(dtype))

    def test_models_that_give_no_logits(self):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
        adapter = SelfLearning(module, lr=0.1)
        before = portrait(adapter)
        with pytest.raises(ModelError, match=r"logits \(6, K\) of the model, got the shape \(6, 4"):
            adapter(noise())
        assert portrait(adapter) == before

        class Pair(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = convolutional()

            def forward(self, x):
                return self.net(x), x

        with pytest.raises(ModelError, match="got tuple"):
            SelfLearning(Pair())(noise())

    def test_models_that_turn_gradients_off(self):
        class Off(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = convolutional()

            @torch.no_grad()
            def forward(self, x):
                return self.net(x)

        with pytest.raises(ModelError, match="turns gradients off"):
            SelfLearning(Off())(noise())

    def test_scripted_and_compiled_models(self):
        with pytest.raises(ModelError, match=r"TorchScript .* graph is fixed"):
            SelfLearning(scripted(convolutional()))
        with pytest.raises(ModelError, match=r"compiled .* graph is fixed"):
            SelfLearning(torch.compile(convolutional()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def scripted(module):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it
        return torch.jit.script(module)


def test_settings_say_what_reproduces_it():
    settings = make_adapter("hard:lr=0.01,prior=inf,threshold=0.5", classifier()).settings
    wanted = {
        "adapter": "selflearning", "loss": "hard", "lr": 0.01, "optimizer": "sgd", "momentum": 0.0,
        "q": None, "threshold": 0.5, "parameters": "affine", "layers": "all", "learnt": 4,
        "values": 20, "prior": "inf", "teacher": "epoch", "answers": "before",
    }  # fmt: skip
    assert {name: settings[name] for name in wanted} == wanted
    assert make_adapter("rpl:q=0.5", classifier()).settings["q"] == 0.5
    assert make_adapter("ent", classifier()).settings["teacher"] is None


@pytest.mark.parametrize("sees", ["classes", "all"])
def test_the_loss_sees_the_classes_or_all_outputs(sees):
    """Against autograd on the network itself, where the classifier has two of five classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.LayerNorm(3 * 4 * 4), nn.Linear(3 * 4 * 4, 5)).eval()
    preprocess = Preprocess((4, 4), 4)
    classifier = Classifier(net, preprocess, ["b", "d"], outputs=[1, 3])
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    adapted = SelfLearning(classifier, loss="ent", lr=0.5, sees=sees)
    logits = adapted.predict(images)
    assert logits.shape == (6, 2)
    outputs = net(torch.from_numpy(preprocess.normalize(images)))
    log_p = torch.log_softmax(outputs[:, [1, 3]] if sees == "classes" else outputs, 1)
    loss = -(log_p.exp() * log_p).sum(1).mean()
    gradient = torch.autograd.grad(loss, net[1].weight)[0]
    learnt = dict(adapted._parameters)["1.weight"]
    torch.testing.assert_close(learnt, net[1].weight - 0.5 * gradient)
    assert adapted.settings["sees"] == sees
