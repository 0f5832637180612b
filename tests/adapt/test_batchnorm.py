import copy
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import timm
import timm.layers
import torch
import torchvision
from torch import nn

from shiftproof.adapt import ADAPTERS, BatchNorm, make_adapter
from shiftproof.adapt.normalization.statistics import Statistics, compute_statistics, mix
from shiftproof.errors import ImageError, InputError, ModelError, UnknownNameError
from shiftproof.models import Classifier, Preprocess

INFINITY = float("inf")


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build()
        for layer in module.modules():
            if getattr(layer, "running_mean", None) is not None:
                layer.running_mean.normal_(0, 0.5)
                layer.running_var.uniform_(0.5, 3)
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
                layer.weight.data.uniform_(0.5, 2)
                layer.bias.data.normal_()
        return module


def network():
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(4, 6, 3, bias=False),
            nn.BatchNorm2d(6, momentum=None),
            nn.Flatten(1),
            nn.Linear(6 * 12 * 12, 5),
        )
    )


def classifier():
    half = (0.5, 0.5, 0.5)
    return Classifier(network(), Preprocess((16, 16), 16, mean=half, std=half))


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * 2 + 1


def pictures(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (count, 16, 16, 3), dtype=np.uint8)


def by_hand(x, mean, variance, layer, prior):
    """Batch norm with the paper's mix, in float64, one channel after the other."""
    x = x.double().numpy()
    mean, variance = mean.double().numpy(), variance.double().numpy()
    weight = (layer.weight if layer.affine else torch.ones(len(mean))).double().detach().numpy()
    bias = (layer.bias if layer.affine else torch.zeros(len(mean))).double().detach().numpy()
    n = len(x)
    share = 0.0 if prior == INFINITY else n / (prior + n)
    result = np.empty_like(x)
    for channel in range(x.shape[1]):
        values = x[:, channel]
        mu = (1 - share) * mean[channel] + share * values.mean()
        var = (1 - share) * variance[channel] + share * np.mean((values - values.mean()) ** 2)
        result[:, channel] = (values - mu) / np.sqrt(var + layer.eps)
        result[:, channel] = result[:, channel] * weight[channel] + bias[channel]
    return result


LAYERS = {
    "1d": (lambda: nn.BatchNorm1d(4), (7, 4)),
    "1d with length": (lambda: nn.BatchNorm1d(4), (7, 4, 9)),
    "2d": (lambda: nn.BatchNorm2d(4), (7, 4, 5, 6)),
    "2d, another eps": (lambda: nn.BatchNorm2d(4, eps=0.5), (7, 4, 5, 6)),
    "2d, not affine": (lambda: nn.BatchNorm2d(4, affine=False), (7, 4, 5, 6)),
    "3d": (lambda: nn.BatchNorm3d(4), (7, 4, 3, 5, 6)),
    "sync": (lambda: nn.SyncBatchNorm(4), (7, 4, 5, 6)),
}


class TestMathematics:
    @pytest.mark.parametrize("prior", [0, 0.5, 16, 1000, INFINITY])
    @pytest.mark.parametrize("kind", LAYERS)
    def test_every_kind_of_layer_mixes_as_by_hand(self, kind, prior):
        build, shape = LAYERS[kind]
        layer = seeded(build)
        x = noise(*shape)
        expected = by_hand(x, layer.running_mean, layer.running_var, layer, prior)
        result = BatchNorm(nn.Sequential(layer), prior=prior)(x)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_the_mix_of_a_small_example(self):
        """N = 16, n = 4: one fifth of the batch."""
        source = Statistics(torch.tensor([10.0]), torch.tensor([1.0]))
        target = Statistics(torch.tensor([0.0]), torch.tensor([6.0]))
        mean, variance = mix(source, target, prior=16, count=4)
        assert mean.item() == pytest.approx(8.0)
        assert variance.item() == pytest.approx(2.0)

    def test_statistics_are_biased(self):
        """Of 0 and 2: the variance is 1 and not 2."""
        mean, variance = compute_statistics(torch.tensor([[0.0], [2.0]]))
        assert (mean.item(), variance.item()) == (1.0, 1.0)

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last, None])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_both_ways_to_take_statistics_agree_with_numpy(self, monkeypatch, fused, layout, dtype):
        if not fused:
            monkeypatch.setattr("shiftproof.adapt.normalization.statistics._FUSED_DEVICES", ())
        x = noise(5, 8, 6, 7).to(dtype)
        x = x[:, ::2, 1:] if layout is None else x.contiguous(memory_format=layout)
        mean, variance = compute_statistics(x)
        assert mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        values = x.double().numpy()
        np.testing.assert_allclose(mean.numpy(), values.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance.numpy(), values.var((0, 2, 3)), rtol=1e-5)

    def test_prior_0_is_batch_norm_in_training_mode(self):
        """torch's own, on a network, with its drop-out off."""
        reference = network().train()
        reference[3].eval()
        x = noise(6, 3, 16, 16)
        with torch.no_grad():
            expected = reference(x)
        result = BatchNorm(network(), prior=0)(x)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)

    def test_an_infinite_prior_is_the_source_to_the_last_bit(self):
        x = noise(6, 3, 16, 16)
        with torch.no_grad():
            expected = network().eval()(x)
        assert torch.equal(BatchNorm(network(), prior=INFINITY)(x), expected)
        source = classifier()
        np.testing.assert_array_equal(
            BatchNorm(source, prior=INFINITY).predict(pictures()), source.predict(pictures())
        )

    @pytest.mark.parametrize("count", [6, 2, 1])
    def test_later_layers_see_what_earlier_ones_adapted(self, count):
        """Layer after layer by hand; n is the number of images that came, not one that was set."""
        module = network().eval()
        x = noise(6, 3, 16, 16)[:count]
        adapter = BatchNorm(module, prior=4)
        adapter(noise(6, 3, 16, 16, seed=1))
        result = adapter(x)
        with torch.no_grad():
            for layer in module:
                if isinstance(layer, nn.BatchNorm2d):
                    values = by_hand(x, layer.running_mean, layer.running_var, layer, 4)
                    x = torch.from_numpy(values).float()
                else:
                    x = layer(x)
        torch.testing.assert_close(result, x, rtol=1e-3, atol=1e-3)


class TestSubclasses:
    @staticmethod
    def in_training_mode(module):
        """Evaluation mode but for the batch norm: torch's own batch statistics."""
        module = copy.deepcopy(module).eval()
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.training = True  # not train(): that would reach drop-out inside the layer
        return module

    def test_timms_layers_keep_their_activation_and_drop_out(self):
        def drop():
            return nn.Dropout(0.5)

        layer = timm.layers.BatchNormAct2d(4, act_layer=nn.SiLU, drop_layer=drop)
        module = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), layer))
        assert isinstance(layer.act, nn.SiLU)
        assert isinstance(layer.drop, nn.Dropout)
        x = noise(4, 3, 9, 9)
        with torch.no_grad():
            expected = self.in_training_mode(module)(x)
            plain = by_hand(module[0](x), layer.running_mean, layer.running_var, layer, 16)
        torch.testing.assert_close(BatchNorm(module, prior=0)(x), expected)
        result = BatchNorm(module, prior=16)(x)
        silu = plain / (1 + np.exp(-plain))
        np.testing.assert_allclose(result.numpy(), silu, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18"])
    def test_networks_of_timm(self, name):
        module = seeded(lambda: timm.create_model(name, num_classes=5))
        x = noise(4, 3, 64, 64)
        with torch.no_grad():
            expected = self.in_training_mode(module)(x)
        result = BatchNorm(module, prior=0)(x)
        scale = expected.abs().max().item()
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3 * scale)

    @pytest.mark.parametrize(
        "build", [torchvision.ops.FrozenBatchNorm2d, timm.layers.FrozenBatchNormAct2d]
    )
    def test_frozen_layers_adapt(self, build):
        layer = seeded(lambda: build(4))
        layer.weight.uniform_(0.5, 2)
        layer.affine = True
        x = noise(6, 4, 5, 5)
        expected = by_hand(x, layer.running_mean, layer.running_var, layer, 16)
        if build is timm.layers.FrozenBatchNormAct2d:
            expected = np.maximum(expected, 0)
        module = nn.Sequential(layer)
        adapter = BatchNorm(module, prior=16)
        np.testing.assert_allclose(adapter(x).numpy(), expected, rtol=1e-4, atol=1e-5)
        assert list(adapter.merge().state_dict()) == list(module.state_dict())
        torch.testing.assert_close(adapter.merge()(x), adapter(x))

    def test_layers_that_are_called_by_keyword_adapt(self):
        class Keyword(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm2d(3)

            def forward(self, x):
                return self.norm(input=x)

        x = noise(4, 3, 5, 5)
        with torch.no_grad():
            expected = nn.BatchNorm2d(3)(x)
        torch.testing.assert_close(BatchNorm(Keyword(), prior=0)(x), expected)

    def test_layers_without_source_statistics_stay_as_they_are(self):
        module = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3))
        adapter = BatchNorm(module, prior=16)
        assert adapter.settings["adapted"] == 1
        assert adapter.settings["untracked"] == 1
        x = noise(4, 3, 5, 5)
        first = nn.functional.batch_norm(x, None, None, training=True)
        expected = by_hand(first, torch.zeros(3), torch.ones(3), nn.BatchNorm2d(3), 16)
        np.testing.assert_allclose(adapter(x).numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_half_precision(self):
        module = network()
        x = noise(6, 3, 16, 16)
        expected = BatchNorm(module, prior=4)(x)
        adapter = BatchNorm(copy.deepcopy(module).to(torch.bfloat16), prior=4)
        result = adapter(x.to(torch.bfloat16))
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), expected, rtol=0.1, atol=0.3)
        assert adapter.merge()[1].running_var.dtype == torch.bfloat16


class TestOneValue:
    @staticmethod
    def pooled():
        return seeded(
            lambda: nn.Sequential(
                nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            )
        )

    def test_the_source_statistics_are_taken_and_said_once(self):
        module = self.pooled()
        adapter = BatchNorm(module, prior=0)
        x = noise(1, 3, 8, 8)
        with pytest.warns(RuntimeWarning, match="layer '2' saw one value per channel") as caught:
            result = adapter(x)
        assert len(caught) == 1
        first = by_hand(x, module[0].running_mean, module[0].running_var, module[0], 0)
        pooled = torch.from_numpy(first).float().mean((2, 3), keepdim=True)
        with torch.no_grad():
            expected = module.eval()[2:](pooled)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        adapter(x)  # a second warning would be an error
        torch.testing.assert_close(adapter.merge()(x), result)

    def test_two_images_or_a_prior_are_enough(self):
        BatchNorm(self.pooled(), prior=0)(noise(2, 3, 8, 8))
        result = BatchNorm(self.pooled(), prior=16)(noise(1, 3, 8, 8))
        assert torch.isfinite(result).all()


class TestCallersModel:
    def test_is_as_it_was_after_an_exception(self):
        module = network().train()
        state = copy.deepcopy(module.state_dict())
        adapter = BatchNorm(module, prior=0)
        x = noise(4, 3, 16, 16)
        expected = adapter(x)
        with pytest.raises(RuntimeError):
            adapter(noise(4, 3, 9, 9))  # the last layer takes another size
        assert all(torch.equal(state[name], now) for name, now in module.state_dict().items())
        assert module.training
        assert torch.equal(adapter(x), expected)
        assert not any(layer._forward_pre_hooks for layer in adapter._network.module.modules())
        # What was learnt last is still the last batch that went through.
        torch.testing.assert_close(adapter.merge()(x), expected)

    def test_its_parameters_are_shared_and_its_buffers_not(self):
        module = network()
        adapter = BatchNorm(module)
        inner = adapter._network.module
        assert inner[0].weight.data_ptr() == module[0].weight.data_ptr()
        assert inner[1].running_mean.data_ptr() != module[1].running_mean.data_ptr()

    def test_its_own_hooks_run(self):
        module = network()
        seen = []
        module[1].register_forward_pre_hook(lambda _layer, args: seen.append(len(args[0])))
        BatchNorm(module, prior=16)(noise(4, 3, 16, 16))
        assert seen == [4]
        assert len(module[1]._forward_pre_hooks) == 1

    def test_no_gradient_is_kept(self):
        result = BatchNorm(network())(noise(4, 3, 16, 16).requires_grad_())
        assert not result.requires_grad


class TestBrokenBatches:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_they_do_not_poison_later_ones(self, value):
        adapter = BatchNorm(network(), prior=4)
        x = noise(4, 3, 16, 16)
        expected = adapter(x)
        broken = x.clone()
        broken[0, 0, 3, 3] = value
        outputs = adapter(broken)
        assert not torch.isfinite(outputs[0]).all()
        # The others of its batch are predicted with the source's statistics.
        torch.testing.assert_close(outputs[1:], network().eval()(x)[1:])
        torch.testing.assert_close(adapter.merge()(x), expected)
        [event] = adapter.events
        assert (event.kind, event.batch) == ("skipped", 1)
        assert torch.equal(adapter(x), expected)
        torch.testing.assert_close(adapter.merge()(x), expected)
        adapter(broken)
        adapter.reset()
        assert torch.equal(adapter.merge()[1].running_mean, network()[1].running_mean)

    def test_an_empty_batch_changes_nothing(self):
        adapter = BatchNorm(classifier(), prior=4)
        adapter.predict(pictures())
        before = adapter.merge().state_dict()
        assert adapter.predict(pictures(0)).shape == (0, 5)
        after = adapter.merge().state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_errors_are_those_of_the_classifier(self):
        adapter = BatchNorm(classifier())
        with pytest.raises(ImageError, match="images of 16 x 16"):
            adapter.predict(np.zeros((2, 9, 9, 3), np.uint8))
        with pytest.raises(ImageError, match=r"\(N, 3, H, W\)"):
            adapter(torch.zeros(2, 1, 16, 16))
        with pytest.raises(InputError, match="axis 0"):
            BatchNorm(network())(None)


class TestMerged:
    @pytest.mark.parametrize("prior", [0, 16, INFINITY])
    def test_it_gives_the_adapters_logits_and_fits_the_plain_model(self, prior):
        adapter = BatchNorm(classifier(), prior=prior)
        adapter.predict(pictures(seed=1))
        logits = adapter.predict(pictures())
        merged = adapter.merge()
        assert type(merged) is nn.Sequential
        plain = network()
        plain.load_state_dict(merged.state_dict())
        batch = torch.from_numpy(adapter.preprocess.normalize(pictures()))
        with torch.no_grad():
            for module in (merged, plain.eval()):
                np.testing.assert_allclose(module(batch).numpy(), logits, atol=1e-5)
        assert adapter.predict(pictures()).tobytes() == logits.tobytes()

    def test_its_statistics_are_the_mix_of_what_its_layers_see(self):
        """Measured on the plain merged model itself, by numpy."""
        source = seeded(lambda: timm.create_model("mobilenetv3_small_050", num_classes=5))
        adapter = BatchNorm(source, prior=16)
        x = noise(4, 3, 64, 64)
        adapter(x)
        merged = adapter.merge()
        inputs = {}
        for name, layer in merged.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_pre_hook(
                    lambda _layer, args, name=name: inputs.update({name: args[0].double().numpy()})
                )
        with torch.no_grad():
            merged(x)
        assert len(inputs) > 20
        for name, values in inputs.items():
            before, after = source.get_submodule(name), merged.get_submodule(name)
            for old, new, target in (
                (before.running_mean, after.running_mean, values.mean((0, 2, 3))),
                (before.running_var, after.running_var, values.var((0, 2, 3))),
            ):
                expected = 16 / 20 * old.double().numpy() + 4 / 20 * target
                np.testing.assert_allclose(new.numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_before_any_batch_and_after_reset_it_is_the_source(self):
        adapter = BatchNorm(classifier(), prior=0)
        states = [adapter.merge().state_dict()]
        adapter.predict(pictures())
        changed = adapter.merge().state_dict()
        adapter.reset()
        states.append(adapter.merge().state_dict())
        for state in states:
            assert all(
                torch.equal(state[key], value) for key, value in network().state_dict().items()
            )
        assert not torch.equal(changed["1.running_mean"], states[0]["1.running_mean"])

    def test_it_needs_no_shiftproof_and_can_be_trained(self):
        adapter = BatchNorm(classifier())
        adapter.predict(pictures())
        merged = adapter.merge()
        assert b"shiftproof" not in pickle.dumps(merged)
        merged.train()
        merged(noise(4, 3, 16, 16)).sum().backward()
        assert merged[1].num_batches_tracked == 1
        assert all(parameter.requires_grad for parameter in merged.parameters())

    def test_it_can_be_exported(self):
        adapter = BatchNorm(network())
        x = noise(4, 3, 16, 16)
        expected = adapter(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises against it
            traced = torch.jit.trace(adapter.merge(), x)
        torch.testing.assert_close(traced(x), expected)

    def test_a_layer_that_runs_twice_cannot_be_merged(self):
        norm = nn.BatchNorm2d(3)
        module = nn.Sequential(norm, nn.Conv2d(3, 3, 1), norm)
        adapter = BatchNorm(module, prior=0)
        x = noise(4, 3, 5, 5)
        with torch.no_grad():
            expected = copy.deepcopy(module).train()(x)
        torch.testing.assert_close(adapter(x), expected)
        with pytest.raises(ModelError, match="'0' ran several times"):
            adapter.merge()
        adapter.reset()
        adapter.merge()


class TestRefusals:
    @pytest.mark.parametrize("prior", [-1, float("nan"), -INFINITY, "16", None, True])
    def test_priors(self, prior):
        with pytest.raises(InputError, match="prior: expected"):
            BatchNorm(network(), prior=prior)

    def test_a_model_without_batch_norm_hears_what_it_has(self):
        with pytest.raises(ModelError, match=r"it has 25 LayerNorm.*Self-learning"):
            BatchNorm(timm.create_model("vit_tiny_patch16_224"))
        mixed = nn.Sequential(nn.GroupNorm(1, 3), nn.InstanceNorm2d(3), nn.GroupNorm(3, 3))
        with pytest.raises(ModelError, match="it has 2 GroupNorm, 1 InstanceNorm2d"):
            BatchNorm(mixed)
        with pytest.raises(ModelError, match=r"no other norm layer .*folded"):
            BatchNorm(nn.Linear(2, 2))

    def test_a_model_whose_layers_keep_no_statistics(self):
        with pytest.raises(ModelError, match="1 batch-norm layers of Sequential keep no source"):
            BatchNorm(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))

    def test_a_function_has_a_fixed_graph(self):
        function = Classifier(lambda x: x.mean((2, 3)), Preprocess((8, 8), 8), name="model.onnx")
        with pytest.raises(ModelError, match=r"model\.onnx cannot be adapted: its graph is fixed"):
            BatchNorm(function)

    def test_torchscript_and_compiled_models(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises against it
            traced = torch.jit.trace(network().eval(), noise(4, 3, 16, 16))
        with pytest.raises(ModelError, match=r"TorchScript .* graph is fixed"):
            BatchNorm(traced)
        compiled = torch.compile(network())
        with pytest.raises(ModelError, match=r"compiled .* graph is fixed"):
            BatchNorm(compiled)

    @pytest.mark.parametrize("model", ["demo", None, lambda x: x])
    def test_other_things(self, model):
        with pytest.raises(ModelError, match=r"Expected a Classifier or a torch.nn.Module"):
            BatchNorm(model)

    def test_another_adapter(self):
        with pytest.raises(ModelError, match="got BatchNorm"):
            BatchNorm(BatchNorm(classifier()))

    def test_a_model_that_passes_its_layers_by(self):
        class Bypass(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm2d(3)

            def forward(self, x):
                return self.norm.forward(x)

        with pytest.raises(ModelError, match="without calling any"):
            BatchNorm(Bypass())(noise(4, 3, 5, 5))


class TestIsAClassifier:
    def test_it_has_what_the_classifier_has(self):
        source = classifier()
        adapter = BatchNorm(source, prior=4)
        assert adapter.classifier is source
        assert adapter.name == source.name
        assert adapter.classes is source.classes
        assert adapter.preprocess is source.preprocess
        assert adapter.prior == 4

    def test_settings_are_json(self):
        settings = BatchNorm(classifier(), prior=INFINITY).settings
        assert json.loads(json.dumps(settings, allow_nan=False)) == settings
        assert settings["adapter"] == "batchnorm"
        assert settings["prior"] == "inf"
        assert settings["adapted"] == 2
        assert BatchNorm(network(), prior=4).settings["prior"] == 4
        assert settings["classifier"] == classifier().settings
        assert "classifier" not in BatchNorm(network()).settings

    def test_on_a_plain_module_it_says_what_is_missing(self):
        adapter = BatchNorm(network())
        for use in (
            lambda: adapter.predict(pictures()),
            lambda: adapter.classes,
            lambda: adapter.preprocess,
            lambda: adapter.name,
        ):
            with pytest.raises(ModelError, match=r"Classifier\(module"):
                use()

    def test_tensors_are_the_classifiers_tensors(self):
        adapter = BatchNorm(classifier(), prior=4)
        expected = adapter.predict(pictures())
        batch = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
        for tensor in (batch, batch / 255):
            np.testing.assert_allclose(adapter(tensor).numpy(), expected, atol=1e-5)


class TestMakeAdapter:
    @pytest.mark.parametrize(
        ("spec", "prior"),
        [
            ("batchnorm", "auto"),
            ("batchnorm:prior=layerwise", "layerwise"),
            ("batchnorm:prior=0", 0),
            (" batchnorm: prior = 2.5 ", 2.5),
            ("batchnorm:prior=inf", INFINITY),
        ],
    )
    def test_specs(self, spec, prior):
        adapter = make_adapter(spec, classifier())
        assert isinstance(adapter, BatchNorm)
        assert adapter.prior == prior
        assert isinstance(adapter.prior, type(prior))

    @pytest.mark.parametrize(
        ("spec", "error", "words"),
        [
            ("batchnrom", UnknownNameError, "Did you mean 'batchnorm'"),
            ("batchnorm:piror=0", UnknownNameError, "Did you mean 'prior'"),
            ("batchnorm:prior", InputError, "expected prior=VALUE"),
            ("batchnorm:prior=", InputError, "expected prior=VALUE"),
            ("batchnorm:prior=many", InputError, "prior cannot be 'many'"),
            ("batchnorm:prior=0,prior=1", InputError, "given twice"),
            ("batchnorm:prior=-1", InputError, "prior: expected 0 or more"),
            ("batchnorm:prior=nan", InputError, "prior: expected 0 or more"),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, spec, error, words):
        with pytest.raises(error, match=words):
            make_adapter(spec, classifier())

    def test_every_row_says_what_it_is(self):
        for name, entry in ADAPTERS.items():
            assert entry.description
            if name in ("clipartt", "tda", "tpt", "zero"):
                continue  # of zero-shot classifiers alone
            spec = f"{name}+batchnorm" if entry.wraps else name
            settings = make_adapter(spec, classifier()).settings
            assert name in (settings["adapter"], settings.get("loss"))


def test_importing_it_does_not_load_torch():
    code = "import sys, shiftproof.adapt, shiftproof.testing; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
