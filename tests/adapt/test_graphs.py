"""Exported graphs answer in ONNX Runtime as torch's adapter does, on whatever form the graph has."""

import json
import types

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from shiftproof.adapt import BatchNorm, export_onnx
from shiftproof.adapt.graphs import batch_statistics, onnx_files
from shiftproof.adapt.graphs.export import AdaptedLayer
from shiftproof.adapt.normalization.statistics import SINGLE_IMAGE
from shiftproof.errors import BrokenFileError, InputError, MissingExtraError, ModelError
from shiftproof.models import load_classifier
from support.onnx_graphs import build, export, model_of, norm_node, run, stored
from support.small_networks import convolutional, noise

CLOSE = {"atol": 1e-5, "rtol": 0}


def adapt(model, tmp_path, spec="batchnorm:prior=16", **options):
    onnx.save(model, tmp_path / "plain.onnx")
    return export_onnx(tmp_path / "plain.onnx", tmp_path / "out.onnx", spec, **options)


def by_torch(images, module=None, **options):
    return BatchNorm(convolutional() if module is None else module, **options)(images).numpy()


@pytest.mark.parametrize("prior", [16, 0.5, 0, "auto", "layerwise"])
@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_it_answers_as_torch_does(prior, count, tmp_path):
    done = adapt(build(), tmp_path, f"batchnorm:prior={prior}")
    images = noise(count)
    np.testing.assert_allclose(run(done.path, images), by_torch(images, prior=prior), **CLOSE)
    plain = run(tmp_path / "plain.onnx", images)
    # A batch of one that is measured to be like the source adapts in neither.
    assert count == 1 or np.abs(run(done.path, images) - plain).max() > 0.01


def test_without_options_it_measures_the_prior_as_the_adapter_does(tmp_path):
    onnx.save(build(), tmp_path / "plain.onnx")
    done = export_onnx(tmp_path / "plain.onnx", tmp_path / "out.onnx")
    np.testing.assert_allclose(run(done.path, noise(9)), by_torch(noise(9)), **CLOSE)


@pytest.mark.parametrize("parts", ["mean", "variance"])
def test_parts_adapt_alone(parts, tmp_path):
    done = adapt(build(), tmp_path, f"batchnorm:prior=4,parts={parts}")
    expected = by_torch(noise(), prior=4, parts=parts)
    np.testing.assert_allclose(run(done.path, noise()), expected, **CLOSE)


def test_some_of_the_layers_adapt(tmp_path):
    done = adapt(build(), tmp_path, "batchnorm:prior=4,layers=last-1")
    assert done.layers == (AdaptedLayer("norm5", "batch norm", 6),)
    expected = by_torch(noise(), prior=4, layers="last-1")
    np.testing.assert_allclose(run(done.path, noise()), expected, **CLOSE)


@pytest.mark.parametrize("prior", [16, "auto"])
@pytest.mark.parametrize("opset", [9, 11, 12, 13, 14, 15, 17, 18, 20, 21, 22, 23])
def test_every_opset(opset, prior, tmp_path):
    done = adapt(build(opset), tmp_path, f"batchnorm:prior={prior}")
    assert done.opset == opset
    np.testing.assert_allclose(run(done.path, noise()), by_torch(noise(), prior=prior), **CLOSE)


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("prior", [16, "auto"])
def test_a_fixed_batch(batch, prior, tmp_path):
    done = adapt(build(batch=batch), tmp_path, f"batchnorm:prior={prior}")
    assert done.batch == batch
    expected = by_torch(noise(batch), prior=prior)
    np.testing.assert_allclose(run(done.path, noise(batch)), expected, **CLOSE)


def test_weights_as_constants_and_stored_tensors_of_old_files(tmp_path):
    old = build(9)
    old.ir_version = 3
    old.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in old.graph.initializer
    )
    for name, model in (("constants", build(constants=True)), ("old", old)):
        (tmp_path / name).mkdir()
        done = adapt(model, tmp_path / name)
        np.testing.assert_allclose(run(done.path, noise()), by_torch(noise(), prior=16), **CLOSE)
        assert [
            entry.name for entry in onnx.load(done.path).graph.input if "1." in entry.name
        ] == []


def test_weights_that_two_norms_share_by_way_of_identities(tmp_path):
    weights = stored()
    nodes = [
        helper.make_node("Identity", ["1.weight"], ["other"]),
        norm_node("1", "image", "first"),
        helper.make_node("Relu", ["first"], ["relu"]),
        helper.make_node(
            "BatchNormalization",
            ["relu", "other", "1.bias", "1.running_mean", "1.running_var"],
            ["second"],
        ),
        helper.make_node("GlobalAveragePool", ["second"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["logits"]),
    ]
    tensors = [
        numpy_helper.from_array(value[:3], name)
        for name, value in weights.items()
        if name.startswith("1.") and value.ndim
    ]
    done = adapt(model_of(nodes, tensors, outputs=3), tmp_path)
    norm = nn.BatchNorm2d(3)
    state = {
        name[2:]: torch.tensor(value[:3])
        for name, value in weights.items()
        if name[:2] == "1." and value.ndim
    }
    norm.load_state_dict(state, strict=False)
    twin = nn.BatchNorm2d(3)
    twin.load_state_dict(norm.state_dict())
    module = nn.Sequential(norm, nn.ReLU(), twin, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    np.testing.assert_allclose(
        run(done.path, noise()), by_torch(noise(), module, prior=16), **CLOSE
    )


@pytest.mark.parametrize("prior", [16, "auto"])
def test_half_precision_has_its_statistics_in_float32(prior, tmp_path):
    done = adapt(build(kind=TensorProto.FLOAT16), tmp_path, f"batchnorm:prior={prior}")
    answers = run(done.path, noise().numpy().astype(np.float16))
    assert answers.dtype == np.float16
    np.testing.assert_allclose(answers, by_torch(noise(), prior=prior), atol=0.05)


@pytest.mark.parametrize("prior", [16, "auto"])
def test_double_precision_has_its_statistics_in_double(prior, tmp_path):
    nodes = [
        norm_node("1", "image", "normal"),
        helper.make_node("ReduceMean", ["normal"], ["logits"], axes=[2, 3], keepdims=0),
    ]
    norm = nn.BatchNorm2d(3, dtype=torch.float64)
    norm.running_var.mul_(3)
    tensors = [
        numpy_helper.from_array(value.detach().numpy(), f"1.{name}")
        for name, value in norm.state_dict().items()
    ]
    done = adapt(
        model_of(nodes, tensors[:4], outputs=3, kind=TensorProto.DOUBLE),
        tmp_path,
        f"batchnorm:prior={prior}",
    )
    module = nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    expected = by_torch(noise().double(), module, prior=prior)
    np.testing.assert_allclose(run(done.path, noise().double()), expected, atol=1e-6)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_both_exporters_of_torch(dynamo, tmp_path):
    export(convolutional(), tmp_path / "plain.onnx", dynamo=dynamo)
    done = export_onnx(tmp_path / "plain.onnx", tmp_path / "out.onnx", "batchnorm:prior=16")
    assert len(done.layers) == 2
    np.testing.assert_allclose(run(done.path, noise(7)), by_torch(noise(7), prior=16), **CLOSE)


class Tokens(nn.Module):
    """Norms of tables: of tokens, several rows an image, and of vectors, one."""

    def __init__(self):
        super().__init__()
        self.tokens, self.vectors = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        for norm in (self.tokens, self.vectors):
            norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
            norm.running_var.mul_(2)

    def forward(self, image):
        rows = image.permute(0, 2, 3, 1).flatten(1, 2)
        rows = self.tokens(rows.reshape(-1, 3)).reshape(image.shape[0], -1, 3)
        return self.vectors(rows.relu().mean(1))


@pytest.mark.parametrize("prior", [16, "auto", "layerwise"])
def test_norms_of_tokens_and_vectors(prior, tmp_path):
    path = export(Tokens(), tmp_path / "plain.onnx")
    done = export_onnx(path, tmp_path / "out.onnx", f"batchnorm:prior={prior}")
    expected = by_torch(noise(5), Tokens().eval(), prior=prior)
    # Torch measures the prior in float32, not counted from the source's mean.
    close = {"atol": 1e-4} if prior == "layerwise" else CLOSE
    np.testing.assert_allclose(run(done.path, noise(5)), expected, **close)


def test_channels_last_around_convolutions(tmp_path):
    """As tf2onnx writes it: images (N, H, W, 3), turned before and after what works on channels."""
    model = build()
    model.graph.node[0].input[0] = "turned"
    model.graph.node.insert(
        0, helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2])
    )
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 16, 16, 3])
    )
    done = adapt(model, tmp_path)
    answers = run(done.path, noise().permute(0, 2, 3, 1).contiguous())
    np.testing.assert_allclose(answers, by_torch(noise(), prior=16), **CLOSE)


def test_values_whose_axes_cannot_be_told(tmp_path):
    model = build()
    model.graph.node[1].input[0] = "odd"
    model.graph.node.insert(1, helper.make_node("Reshape", ["c0", "like"], ["odd"]))
    model.graph.node.insert(1, helper.make_node("Shape", ["same"], ["like"]))
    model.graph.node.insert(1, helper.make_node("Unseen", ["c0"], ["same"], domain="local"))
    body = [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(
        helper.make_function("local", "Unseen", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    done = adapt(model, tmp_path)
    np.testing.assert_allclose(run(done.path, noise()), by_torch(noise(), prior=16), **CLOSE)


def nest(model):
    """Put the first norm into both branches of an If."""
    norm = model.graph.node[1]
    branches = []
    for name in ("yes", "no"):
        inner = onnx.NodeProto()
        inner.CopyFrom(norm)
        inner.output[0] = name
        inner.name = f"norm_{name}"
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches.append(helper.make_graph([inner], name, [], [value]))
    flag = helper.make_node("Constant", [], ["flag"], value=numpy_helper.from_array(np.array(True)))
    chosen = helper.make_node(
        "If", ["flag"], ["b0"], then_branch=branches[0], else_branch=branches[1]
    )
    del model.graph.node[1]
    model.graph.node.insert(1, chosen)
    model.graph.node.insert(1, flag)
    return model


@pytest.mark.parametrize("prior", [16, 0, "layerwise"])
def test_norms_inside_an_if(prior, tmp_path):
    done = adapt(nest(build()), tmp_path, f"batchnorm:prior={prior}")
    assert {layer.name for layer in done.layers} == {"norm5", "norm_yes", "norm_no"}
    np.testing.assert_allclose(run(done.path, noise()), by_torch(noise(), prior=prior), **CLOSE)


def test_functions_are_written_out(tmp_path):
    model = build()
    body = [helper.make_node("BatchNormalization", list("xabmv"), ["y"], epsilon=1e-3)]
    model.functions.append(
        helper.make_function(
            "local", "Norm", list("xabmv"), ["y"], body, [helper.make_opsetid("", 17)]
        )
    )
    model.opset_import.append(helper.make_opsetid("local", 1))
    norm = model.graph.node[1]
    model.graph.node[1].CopyFrom(
        helper.make_node("Norm", list(norm.input), list(norm.output), domain="local")
    )
    done = adapt(model, tmp_path)
    assert len(done.layers) == 2
    np.testing.assert_allclose(run(done.path, noise()), by_torch(noise(), prior=16), **CLOSE)


def test_weights_beside_the_file(tmp_path):
    onnx.save_model(
        build(), tmp_path / "plain.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    done = export_onnx(tmp_path / "plain.onnx", tmp_path / "out.onnx", "batchnorm:prior=16")
    np.testing.assert_allclose(run(done.path, noise()), by_torch(noise(), prior=16), **CLOSE)
    assert not (tmp_path / "out.onnx.data").exists()


def test_large_weights_are_written_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "MAX_BYTES", 100)
    weights = stored()
    weights["9.weight"] = np.repeat(weights["9.weight"], 100, 0)
    weights["9.bias"] = np.repeat(weights["9.bias"], 100)
    done = adapt(build(weights=weights), tmp_path)
    assert (tmp_path / "out.onnx.data").stat().st_size >= 4 * weights["9.weight"].size
    answers = run(done.path, noise())[:, ::100]
    np.testing.assert_allclose(answers, by_torch(noise(), prior=16), **CLOSE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.onnx", "out.onnx.data", "plain.onnx"]


@pytest.mark.parametrize("prior", [16, "auto"])
def test_an_image_that_is_not_finite_does_not_spoil_the_others(prior, tmp_path):
    done = adapt(build(), tmp_path, f"batchnorm:prior={prior}")
    images = noise()
    images[2, 1, 3, 3] = torch.nan
    expected = by_torch(images, prior=prior)
    assert np.isfinite(expected).all(1).tolist() == [True, True, False, True, True, True]
    np.testing.assert_allclose(run(done.path, images)[:2], expected[:2], **CLOSE)


def test_a_shift_of_a_thousand_spreads_keeps_the_variance(tmp_path):
    done = adapt(build(), tmp_path, "batchnorm:prior=0")
    images = noise() + 300
    module = convolutional().double()
    expected = by_torch(images.double(), module, prior=0)
    np.testing.assert_allclose(run(done.path, images), expected, atol=2e-2)


def test_the_file_is_valid_says_what_was_done_and_keeps_its_doors(tmp_path):
    done = adapt(build(), tmp_path)
    model = onnx.load(done.path)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["shiftproof.adapt"]) == {
        "adapter": "batchnorm", "prior": 16, "parts": "both", "layers": "all",
    }  # fmt: skip
    assert metadata["shiftproof.version"]
    plain = onnx.load(tmp_path / "plain.onnx").graph
    assert list(model.graph.input) == list(plain.input)
    assert list(model.graph.output) == list(plain.output)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert {node.domain for node in model.graph.node} == {""}
    assert not {"1.running_mean", "5.running_var"} & {t.name for t in model.graph.initializer}


def test_it_is_a_classifier(tmp_path):
    done = adapt(build(), tmp_path)
    classifier = load_classifier(f"onnx:{done.path}?mean=0.5,0.5,0.5&std=0.5,0.5,0.5")
    pictures = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)
    inputs = torch.from_numpy(classifier.preprocess.normalize(pictures))
    np.testing.assert_allclose(classifier.predict(pictures), by_torch(inputs, prior=16), **CLOSE)


# ---------------------------------------------------------------- folded


def clean(count=40):
    return [noise(10, seed=seed).numpy() for seed in range(count // 10)]


@pytest.mark.parametrize(("dynamo", "prior"), [(False, 16), (False, "auto"), (True, 16)])
def test_folded_norms_are_made_up_for(dynamo, prior, tmp_path):
    """With the clean images' own statistics as the source's, folding costs nothing but epsilon."""
    module = convolutional()
    module.train()
    for layer in module:
        layer.momentum = None  # a plain average
    module[3].eval()
    module(torch.from_numpy(np.concatenate(clean())))
    for layer in (module[1], module[5]):
        layer.running_var *= (40 * 196 - 1) / (40 * 196)
    export(module, tmp_path / "folded.onnx", dynamo=dynamo, unfolded=False)
    done = export_onnx(
        tmp_path / "folded.onnx", tmp_path / "out.onnx", f"batchnorm:prior={prior}",
        calibration=clean(),
    )  # fmt: skip
    assert [(layer.kind, layer.channels) for layer in done.layers] == [
        ("after convolution", 4),
        ("after convolution", 6),
    ]
    assert done.calibration_images == 40
    plain = run(tmp_path / "folded.onnx", noise())
    np.testing.assert_allclose(plain, module.eval()(noise()).detach(), atol=1e-4)
    shifted = noise(seed=7) * 0.3 + 2
    expected = by_torch(shifted, module, prior=prior)
    answers = run(done.path, shifted)
    np.testing.assert_allclose(answers, expected, atol=0.02)
    assert np.abs(answers - run(tmp_path / "folded.onnx", shifted)).max() > 0.3


def test_a_head_that_never_had_a_norm_is_left_alone(tmp_path):
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], name="first"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b"], ["h"], name="head"),
        helper.make_node("Sigmoid", ["h"], ["s"]),
        helper.make_node("Flatten", ["s"], ["logits"]),
    ]
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w", (2, 3, 3, 3)), ("w2", (2, 2, 3, 3)), ("b", (2,)))
    ]
    done = adapt(model_of(nodes, tensors, outputs=288), tmp_path, calibration=clean())
    assert [layer.name for layer in done.layers] == ["first"]


# ---------------------------------------------------------------- what is refused


def refuse(match, tmp_path, make, spec="batchnorm:prior=16", kind=InputError, **options):
    with pytest.raises(kind, match=match):
        adapt(make, tmp_path, spec, **options)
    assert not (tmp_path / "out.onnx").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"plain.onnx"}


def without_norms():
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["logits"]),
    ]
    return model_of(nodes, [], outputs=3)


def test_graphs_that_cannot_adapt(tmp_path):
    refuse("has no batch norm; .*--calibrate", tmp_path, without_norms())
    refuse("neither batch norm nor a conv", tmp_path, without_norms(), calibration=clean())
    refuse("has its 2 batch norms", tmp_path, build(), calibration=clean())
    for opset in (7, 8, onnx.defs.onnx_opset_version() + 1):
        other = build(9)
        other.opset_import[0].version = opset
        refuse(f"is of opset {opset}; expected 9 to", tmp_path, other, kind=ModelError)
    training = build()
    training.graph.node[1].attribute.add(name="training_mode", type=2, i=1)
    training.graph.node[1].output.extend(["m", "v"])
    refuse("training mode.*model.eval", tmp_path, training)
    two = build()
    two.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    refuse(r"one input, the images, got 2 \(image, other\)", tmp_path, two)
    computed = build()
    computed.graph.node[1].input[3] = "made"
    computed.graph.node.insert(0, helper.make_node("Abs", ["1.running_mean"], ["made"]))
    refuse("computed in the graph", tmp_path, computed)
    refuse("inside an If or a Loop.*prior=16", tmp_path, nest(build()), "batchnorm")


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("running_var", [1, np.nan, 1], "'?norm.*NaN or infinite; expected finite"),
        ("running_mean", [0, np.inf, 0], "NaN or infinite"),
        ("weight", [np.nan, 1, 1], "NaN or infinite"),
        ("running_var", [1, -0.5, 1], "a variance below 0"),
    ],
)
def test_statistics_that_are_none_are_refused(kind, values, words, tmp_path):
    model = build()
    at = next(place for place, one in enumerate(model.graph.initializer) if one.name == f"1.{kind}")
    channels = model.graph.initializer[at].dims[0]
    filled = np.resize(np.array(values, np.float32), channels)
    model.graph.initializer[at].CopyFrom(numpy_helper.from_array(filled, f"1.{kind}"))
    refuse(words, tmp_path, model)


def test_options_that_a_graph_cannot_follow(tmp_path):
    for spec, match in (
        ("rpl", "'rpl' cannot be put into a graph"),
        ("guard+batchnorm", "cannot be put into a graph"),
        ("batchnorn", "Did you mean 'batchnorm'"),
        ("batchnorm:over=stream", "over the batch alone"),
        ("batchnorm:over=batch,momentum=0.1", "over the batch alone"),
        ("batchnorm:prior=inf", "does not adapt"),
        ("batchnorm:prior=-1", "0 or more"),
        ("batchnorm:parts=means", "Did you mean 'mean'"),
        ("batchnorm:layers=last-9", "asks for 9 of 2"),
        ("batchnorm:depth=1", "depth"),
    ):
        refuse(match, tmp_path, build(), spec)


def test_files_that_are_none(tmp_path):
    for data, match in (
        (b"", "is empty"),
        (b"\x00\x01garbage", "not an ONNX file"),
        (b"\x08\x07", "no graph"),
    ):
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(BrokenFileError, match=match):
            export_onnx(tmp_path / "bad", tmp_path / "out.onnx")
    with pytest.raises(BrokenFileError, match="no such file"):
        export_onnx(tmp_path / "missing", tmp_path / "out.onnx")
    onnx.save_model(
        build(), tmp_path / "apart", save_as_external_data=True, location="w", size_threshold=0
    )
    (tmp_path / "w").unlink()
    with pytest.raises(BrokenFileError, match="not an ONNX file"):
        export_onnx(tmp_path / "apart", tmp_path / "out.onnx")
    invalid = build()
    invalid.graph.node[3].input[0] = "nowhere"
    onnx.save(invalid, tmp_path / "invalid")
    with pytest.raises(BrokenFileError, match="not a valid ONNX graph"):
        export_onnx(tmp_path / "invalid", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_nothing_is_written_over_and_nothing_twice(tmp_path):
    done = adapt(build(), tmp_path)
    before = done.path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        export_onnx(tmp_path / "plain.onnx", done.path)
    with pytest.raises(ModelError, match="adapts already"):
        export_onnx(done.path, tmp_path / "again.onnx")
    with pytest.raises(InputError, match="no such folder"):
        export_onnx(tmp_path / "plain.onnx", tmp_path / "no" / "out.onnx")
    assert done.path.read_bytes() == before


def test_images_to_calibrate_with_that_are_none(tmp_path):
    module = convolutional()
    folded = onnx.load(export(module, tmp_path / "plain.onnx", unfolded=False))
    refuse("no images to calibrate", tmp_path, folded, calibration=[])
    wrong = [np.zeros((2, 4, 16, 16), np.float32)]
    refuse("does not run on the images to calibrate", tmp_path, folded, calibration=wrong)
    refuse(
        "NaN or infinity",
        tmp_path,
        folded,
        calibration=[np.full((2, 3, 16, 16), np.nan, np.float32)],
    )


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"shiftproof\[export\]"):
        export_onnx(tmp_path / "plain.onnx", tmp_path / "out.onnx")


def test_the_constant_of_single_images_is_torchs():
    assert batch_statistics.SINGLE_IMAGE == SINGLE_IMAGE
    assert isinstance(batch_statistics, types.ModuleType)
