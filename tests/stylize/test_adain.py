"""AdaIN with random weights in the published layout, beside networks that are written out here."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.errors import BrokenFileError, InputError, ModelError, RunError
from shiftproof.stylize import AdaIN, stylize
from shiftproof.stylize import adain as module


def reflected(inputs, outputs):
    return [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3), nn.ReLU()]


def pool():
    return nn.MaxPool2d(2, 2, 0, ceil_mode=True)


def published_encoder():
    """VGG-19 to relu5_4 as the file of the published tool has it: 53 layers."""
    layers = [nn.Conv2d(3, 3, 1)]
    wide = 3
    for outputs, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        if wide != 3:
            layers.append(pool())
        for _ in range(count):
            layers += reflected(wide, outputs)
            wide = outputs
    return nn.Sequential(*layers)


def published_decoder():
    def double():
        return nn.UpsamplingNearest2d(scale_factor=2)

    return nn.Sequential(
        *reflected(512, 256), double(),
        *reflected(256, 256), *reflected(256, 256), *reflected(256, 256), *reflected(256, 128),
        double(), *reflected(128, 128), *reflected(128, 64),
        double(), *reflected(64, 64), *reflected(64, 3)[:-1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    encoder, decoder = published_encoder(), published_decoder()
    with torch.no_grad():
        for layer in (*encoder, *decoder):
            if isinstance(layer, nn.Conv2d):
                # So that the signal neither fades nor explodes over twenty layers.
                nn.init.kaiming_normal_(layer.weight)
        # An image about the middle of the range, most of it not clipped.
        decoder[-1].weight.mul_(0.1)
        decoder[-1].bias.fill_(0.5)
    return encoder.eval(), decoder.eval()


@pytest.fixture(scope="module")
def weights(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(networks[0].state_dict(), folder / "vgg_normalised.pth")
    torch.save(networks[1].state_dict(), folder / "decoder.pth")
    return folder


@pytest.fixture(scope="module")
def engine(weights):
    return AdaIN(weights)


def by_hand(networks, content, style, alpha):
    """Stylize padded pictures with the written-out networks and numpy's statistics."""
    encoder, decoder = networks[0][:31], networks[1]

    def features(picture):
        tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            return encoder(tensor).numpy()[0].astype(np.float64)

    own, theirs = features(content), features(style)
    mixed = np.empty_like(own)
    for channel in range(512):
        deviation = np.sqrt(own[channel].var(ddof=1) + 1e-5)
        goal = np.sqrt(theirs[channel].var(ddof=1) + 1e-5)
        mixed[channel] = (own[channel] - own[channel].mean()) / deviation * goal
        mixed[channel] += theirs[channel].mean()
    mixed = alpha * mixed + (1 - alpha) * own
    with torch.no_grad():
        decoded = decoder(torch.from_numpy(mixed.astype(np.float32))[None])[0]
    return decoded.permute(1, 2, 0).clamp(0, 1).numpy() * 255


def test_layers_are_those_of_the_published_files(networks):
    assert len(networks[0]) == 53
    assert len(networks[1]) == 29
    relu4_1 = networks[0][30]
    assert isinstance(relu4_1, nn.ReLU)
    assert networks[0][29].out_channels == 512


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_the_pixels_are_those_of_the_definition(networks, engine, alpha):
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (32, 40, 3), np.uint8)
    style = rng.integers(0, 120, (24, 48, 3), np.uint8)
    expected = by_hand(networks, content, style, alpha)
    result = stylize(content, style, alpha=alpha, engine=engine)
    assert np.abs(result - expected).max() <= 0.51
    assert expected.std() > 3


def test_features_have_the_statistics_of_the_style(engine):
    rng = np.random.default_rng(0)
    features = engine.encode(rng.integers(0, 256, (40, 40, 3), np.uint8))
    style = engine.encode(rng.integers(0, 90, (64, 32, 3), np.uint8))
    result = module.match_statistics(features, *module.compute_statistics(style)).numpy()[0]
    wanted = style.numpy()[0]
    np.testing.assert_allclose(
        result.reshape(512, -1).mean(axis=1), wanted.reshape(512, -1).mean(axis=1), atol=1e-4
    )
    # A channel that is nearly constant in the content keeps less than the style's deviation.
    own = features.numpy()[0].reshape(512, -1).var(axis=1, ddof=1)
    lively = own > 1e-3
    assert lively.sum() > 100
    np.testing.assert_allclose(
        result.reshape(512, -1).var(axis=1, ddof=1)[lively],
        (wanted.reshape(512, -1).var(axis=1, ddof=1) + 1e-5)[lively],
        rtol=1.1e-2,
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 47), (16, 16)])
def test_any_size_is_padded_by_reflection_and_cut_back(engine, size):
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (*size, 3), np.uint8)
    style = rng.integers(0, 256, (20, 20, 3), np.uint8)
    height, width = (max(-(-length // 8) * 8, 16) for length in size)
    padded = np.pad(content, ((0, height - size[0]), (0, width - size[1]), (0, 0)), mode="reflect")
    whole = stylize(padded, style, engine=engine)
    result = stylize(content, style, engine=engine)
    assert result.shape == content.shape
    np.testing.assert_array_equal(result, whole[: size[0], : size[1]])


def test_a_large_style_is_scaled_down_and_remembered(engine, monkeypatch):
    content = np.zeros((16, 16, 3), np.uint8)
    style = np.random.default_rng(0).integers(0, 256, (600, 1200, 3), np.uint8)
    seen = []
    encode = AdaIN.encode

    def watch(owner, image):
        seen.append(image.shape)
        return encode(owner, image[:32, :32])  # how large it came is asked, and a corner is quick

    monkeypatch.setattr(AdaIN, "encode", watch)
    first = stylize(content, style, engine=engine)
    np.testing.assert_array_equal(stylize(content, style, engine=engine), first)
    stylize(content, 255 - style, engine=engine)
    style_and_content = [(512, 1024, 3), (16, 16, 3)]
    assert seen == [*style_and_content, (16, 16, 3), *style_and_content]


def test_it_travels_as_paths(engine, weights):
    packed = pickle.dumps(engine)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert again.identity == engine.identity
    assert again.identity.startswith("adain, encoder ")
    two = AdaIN([weights / "vgg_normalised.pth", weights / "decoder.pth"])
    assert two.identity == engine.identity


def test_names_before_names_are_taken_off(networks, tmp_path):
    state = {f"module.{name}": value for name, value in networks[1].state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "decoder.pth")
    torch.save(networks[0][:31].state_dict(), tmp_path / "vgg_normalised.pth")
    AdaIN(tmp_path)


def test_a_full_memory_is_one_sentence(engine, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(module, "match_statistics", full)
    with pytest.raises(RunError, match="There is not enough memory for AdaIN at 9 x 8 pixels"):
        stylize(np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), engine=engine)


# ---------------------------------------------------------------- weights that are not those


@pytest.fixture
def changed(networks, tmp_path):
    """Return a function that writes weights with one change and opens them."""

    def write(part, change):
        folder = tmp_path / "changed"
        folder.mkdir()
        for name, network in zip(("encoder", "decoder"), networks, strict=True):
            state = dict(network.state_dict())
            if name == part:
                state = change(state)
            file = "vgg_normalised.pth" if name == "encoder" else "decoder.pth"
            torch.save(state, folder / file)
        return AdaIN(folder)

    return write


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("decoder", without("28.bias"), r"decoder.pth is not the decoder of AdaIN: 1 of 18 names"),
        ("encoder", without("29.weight"), r"not the encoder of AdaIN: 1 of 20 names are missing"),
        ("decoder", lambda s: s | {"30.weight": s["1.bias"]}, r"1 names are not its own \(30\.w"),
        (
            "decoder",
            lambda s: s | {"1.bias": s["1.bias"][:7]},
            r"1\.bias is \(7,\) and not \(256,\)",
        ),
        (
            "encoder",
            lambda s: s | {"0.bias": s["0.bias"] * np.nan},
            r"0\.bias holds numbers that are",
        ),
        ("decoder", lambda s: s | {"5.bias": s["5.bias"] + np.inf}, "not finite; fetch the file"),
    ],
)
def test_weights_that_do_not_fit(changed, part, change, message):
    with pytest.raises(ModelError, match=message):
        changed(part, change)


class Evil:
    def __reduce__(self):
        return print, ("it was run",)


def test_files_that_are_no_weights(weights, tmp_path, capsys):
    decoder = weights / "decoder.pth"
    with pytest.raises(InputError, match=r"has no vgg_normalised\.pth; expected"):
        AdaIN(tmp_path)
    with pytest.raises(InputError, match="Expected a folder with vgg_normalised"):
        AdaIN(decoder)
    with pytest.raises(InputError, match="or these two files; got nothing"):
        AdaIN([])
    with pytest.raises(BrokenFileError, match="there is no such file"):
        AdaIN([tmp_path / "gone.pth", decoder])
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="holds a pickled object"):
        AdaIN([tmp_path / "evil.pth", decoder])
    assert "it was run" not in capsys.readouterr().out
    # The two the wrong way round.
    with pytest.raises(ModelError, match="is not the encoder of AdaIN"):
        AdaIN([decoder, weights / "vgg_normalised.pth"])
