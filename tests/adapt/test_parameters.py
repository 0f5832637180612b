import pytest
import timm
import torch
import torchvision
from torch import nn

from shiftproof.adapt.learning.parameters import (
    affine_parameters,
    all_parameters,
    last_layer_name,
    last_layer_parameters,
)
from shiftproof.adapt.normalization.layer_choice import choose_layers
from shiftproof.adapt.normalization.norm_layers import (
    find_batch_norm_layers,
    find_norm_layers,
    is_norm,
)
from shiftproof.errors import InputError, ModelError, UnknownNameError
from support.small_networks import convolutional, with_layer_norm

ARCHITECTURES = [
    "resnet18", "resnet50_gn", "resnetv2_50d_gn", "resnetv2_50d_evos", "resnetv2_50d_frn",
    "convnext_atto", "convnextv2_atto", "convnext_atto_rms", "vit_tiny_patch16_224", "levit_128s",
    "mobilenetv3_small_050", "mobilenetv4_conv_small", "efficientnet_b0", "poolformer_s12",
    "convformer_s18", "hgnetv2_b0", "swinv2_tiny_window8_256", "xcit_nano_12_p16_224",
    "mixer_s32_224", "resmlp_12_224", "coatnet_0_224", "maxvit_tiny_tf_224", "dm_nfnet_f0",
    "nf_resnet50", "regnety_002", "densenet121", "edgenext_xx_small", "cait_xxs24_224",
    "repvit_m0_9", "inception_next_atto", "fastvit_t8", "davit_tiny", "eva02_tiny_patch14_224",
]  # fmt: skip

NORMS = (
    nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
    nn.modules.instancenorm._InstanceNorm, timm.layers.RmsNorm, timm.layers.RmsNorm2d,
    timm.layers.RmsNormFp32, timm.layers.RmsNorm2dFp32,
)  # fmt: skip


def on_meta(build):
    """A network without memory: names and shapes are all that is needed."""
    with torch.device("meta"):
        return build()


class TestAffine:
    def test_resnet_50_has_the_paper_s_53120_values(self):
        network = on_meta(torchvision.models.resnet50)
        chosen = affine_parameters(network)
        assert sum(parameter.numel() for parameter in chosen.values()) == 53_120
        assert len(chosen) == 2 * 53
        assert all(parameter.ndim == 1 for parameter in chosen.values())

    def test_names_and_objects_are_the_network_s(self):
        network = convolutional()
        named = dict(network.named_parameters())
        chosen = affine_parameters(network)
        assert list(chosen) == ["1.weight", "1.bias", "5.weight", "5.bias"]
        assert all(parameter is named[name] for name, parameter in chosen.items())
        assert list(affine_parameters(network, "last-1")) == ["5.weight", "5.bias"]
        assert list(affine_parameters(with_layer_norm())) == ["2.weight", "2.bias"]

    def test_shares_count_the_layers_that_have_some(self):
        """A norm without scale and shift is none of them: the half of two layers is one."""
        network = nn.Sequential(nn.BatchNorm2d(3), nn.LayerNorm(3), nn.BatchNorm2d(3, affine=False))
        assert list(affine_parameters(network, "last-50%")) == ["1.weight", "1.bias"]

    def test_timm_s_batch_norm_with_an_activation_that_learns(self):
        """Its PReLU is a child with a parameter; the layer is a batch norm all the same."""
        layer = timm.layers.BatchNormAct2d(4, act_layer=nn.PReLU)
        assert list(affine_parameters(nn.Sequential(layer))) == ["0.weight", "0.bias"]

    @pytest.mark.parametrize(
        "layer",
        [
            nn.BatchNorm3d(2),
            nn.SyncBatchNorm(2),
            nn.GroupNorm(1, 2),
            nn.InstanceNorm2d(2, affine=True),
            nn.RMSNorm(2),
            timm.layers.LayerNorm2d(2),
            timm.layers.RmsNorm(2),
        ],
    )
    def test_all_kinds(self, layer):
        assert "0.weight" in affine_parameters(nn.Sequential(layer))

    def test_without_any(self):
        with pytest.raises(ModelError, match="folded into its convolutions"):
            affine_parameters(nn.Linear(2, 2))
        with pytest.raises(ModelError, match="frozen batch norm are constants"):
            affine_parameters(nn.Sequential(torchvision.ops.FrozenBatchNorm2d(2)))

    def test_a_norm_whose_activation_learns_or_whose_weight_is_parametrized(self):
        """Every parameter of the norm, and none of the activation's."""
        for kind in (timm.layers.GroupNormAct, timm.layers.RmsNormAct):
            options = {"num_groups": 1} if kind is timm.layers.GroupNormAct else {}
            layer = kind(4, act_layer=nn.PReLU, **options)
            expected = [f"0.{name}" for name, _ in layer.named_parameters(recurse=False)]
            assert list(affine_parameters(nn.Sequential(layer))) == expected
        layer = nn.utils.parametrize.register_parametrization(
            nn.LayerNorm(4), "weight", nn.Softplus()
        )
        assert set(affine_parameters(nn.Sequential(layer))) == {
            "0.bias", "0.parametrizations.weight.original"
        }  # fmt: skip

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_exactly_the_norms_of_an_architecture(self, name):
        """By class, in the list of torch's and timm's norm layers; no weights are needed."""
        network = on_meta(lambda: timm.create_model(name))
        expected = {
            id(parameter)
            for layer in network.modules()
            if isinstance(layer, NORMS)
            for parameter in layer.parameters(recurse=False)
        }
        if not expected:
            with pytest.raises(ModelError, match="no norm layer with a scale and shift"):
                affine_parameters(network)
            return
        chosen = affine_parameters(network)
        assert {id(parameter) for parameter in chosen.values()} == expected
        assert [n for n, _ in network.named_parameters() if n in chosen] == list(chosen)

    @pytest.mark.parametrize(
        "layer",
        [
            timm.layers.EvoNorm2dB0(4), timm.layers.EvoNorm2dS0(32),
            timm.layers.FilterResponseNormTlu2d(4), timm.layers.LayerScale(4),
            timm.layers.grn.GlobalResponseNorm(4), timm.layers.SimpleNorm(4),
            nn.LocalResponseNorm(2),
        ],
        ids=lambda layer: type(layer).__name__,
    )  # fmt: skip
    def test_what_is_called_a_norm_and_is_another_thing(self, layer):
        assert not is_norm(layer)
        network = nn.Sequential(layer, nn.LayerNorm(4))
        assert list(affine_parameters(network)) == ["1.weight", "1.bias"]

    def test_a_network_with_none_of_them_says_what_it_has(self):
        with pytest.raises(ModelError, match="EvoNorm2dB0 is neither batch, layer, group"):
            affine_parameters(nn.Sequential(timm.layers.EvoNorm2dB0(4)))

    def test_a_layer_norm_with_a_linear_layer_in_one(self):
        class LayerNormLinear(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer_norm_weight, self.weight = (nn.Parameter(torch.ones(4)) for _ in "ab")

        assert not is_norm(LayerNormLinear())


class TestOthers:
    def test_the_last_layer_whose_weight_is_parametrized(self):
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        chosen = last_layer_parameters(nn.Sequential(nn.Flatten(), layer))
        assert {id(p) for p in chosen.values()} == {id(p) for p in layer.parameters()}

    def test_the_last_layer(self):
        for name in ("resnet18", "mobilenet_v3_small", "swin_t"):
            network = on_meta(getattr(torchvision.models, name))
            [weight, bias] = last_layer_parameters(network).values()
            assert (len(weight), len(bias)) == (1000, 1000)
        assert last_layer_name(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten())) == "0"
        with pytest.raises(ModelError, match="no linear or convolutional layer"):
            last_layer_name(nn.BatchNorm2d(3))

    def test_all_leaves_out_what_is_not_floating(self):
        network = convolutional()
        network.register_parameter("count", nn.Parameter(torch.tensor(3), requires_grad=False))
        assert set(all_parameters(network)) == set(dict(convolutional().named_parameters()))


class TestNorms:
    def test_what_is_none(self):
        class PreNorm(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm, self.block = nn.LayerNorm(2), nn.Linear(2, 2)

        network = PreNorm()
        assert not is_norm(network)
        assert list(find_norm_layers(nn.Sequential(network))) == ["0.norm"]
        assert not is_norm(nn.Linear(2, 2))

    def test_batch_norm_layers_with_and_without_statistics(self):
        layers, untracked = find_batch_norm_layers(
            nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
        )
        assert (list(layers), untracked) == (["0"], 1)


NAMES = [f"bn{number}" for number in range(1, 11)]


class TestChoices:
    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("all", NAMES),
            ("first-3", NAMES[:3]),
            ("last-3", NAMES[-3:]),
            ("last-33%", NAMES[-4:]),  # 3.3 layers, rounded up
            ("first-1%", NAMES[:1]),
            ("last-100%", NAMES),
            (["bn9", "bn2", "bn9"], ["bn2", "bn9"]),
        ],
    )
    def test_these(self, choice, expected):
        assert choose_layers(NAMES, choice) == expected

    @pytest.mark.parametrize(
        ("choice", "words"),
        [
            ("last", "expected 'all', 'first-K'"),
            ("last-", "expected 'all'"),
            ("middle-3", "expected 'all'"),
            ("last-3.5", "expected 'all'"),
            ("last-0", "asks for 0 of 10"),
            ("last-0%", "asks for 0 of 10"),
            ("first-11", "asks for 11 of 10"),
            ("last-101%", "asks for 11 of 10"),
            ([], "at least one name"),
        ],
    )
    def test_not_these(self, choice, words):
        with pytest.raises(InputError, match=words):
            choose_layers(NAMES, choice)

    def test_a_name_that_is_not_there(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'bn1'"):
            choose_layers(["bn1", "stem"], ["bm1"])
