"""ONNX files whose input has the channels last, or is no float32, give what their network gives."""

import numpy as np
import pytest

from shiftproof import bench
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models import load_classifier, load_detector, load_encoder, load_segmenter

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from support.onnx_graphs import build, model_of, run, with_input  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = list("abcde")
IMAGES = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
NORMAL = ((IMAGES / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)


def save(model, path):
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The logits of the network in float32 and NCHW order, normalized by hand."""
    return run(save(build(), tmp_path_factory.mktemp("plain") / "plain.onnx"), NORMAL)


FORMS = {
    "nhwc": ({"layout": "nhwc"}, "", 1e-5),
    "nhwc, any size": ({"layout": "nhwc", "dims": ["n", None, None, 3]}, "&size=16", 1e-5),
    "named channels": ({"dims": ["n", "num_channels", "h", "w"]}, "&size=16", 1e-5),
    "named channels last": (
        {"layout": "nhwc", "dims": ["n", "h", "w", "channels"]}, "&size=16", 1e-5,
    ),
    "stated": ({"layout": "nhwc", "dims": ["n", None, None, None]}, "&size=16&layout=NHWC", 1e-5),
    "stated nchw": ({"dims": [None] * 4}, "&size=16&layout=nchw", 1e-5),
    "one image": ({"layout": "nhwc", "dims": [2, 16, 16, 3]}, "", 1e-5),
    "double": ({"kind": TensorProto.DOUBLE}, "", 1e-5),
    "half at the border": ({"kind": TensorProto.FLOAT16, "layout": "nhwc"}, "", 1e-2),
    "pixels in float": ({"scaling": (MEAN, STD)}, "&pixels=0..255", 1e-4),
    "pixels 0..1": (
        {"scaling": (np.array(MEAN) / 255, np.array(STD) / 255), "layout": "nhwc"},
        "&pixels=0..1", 1e-4,
    ),
    "uint8": ({"kind": TensorProto.UINT8, "scaling": (MEAN, STD)}, "", 1e-5),
    "uint8, stated": (
        {"kind": TensorProto.UINT8, "layout": "nhwc", "scaling": (MEAN, STD)}, "&pixels=0..255", 1e-5,
    ),
    "uint8, dequantized pixels": (
        {"kind": TensorProto.UINT8, "layout": "nhwc", "quantized": (1.0, 0), "scaling": (MEAN, STD)},
        "&pixels=0..255", 1e-5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_classifier_gives_what_its_network_gives(expected, tmp_path, name):
    form, options, tolerance = FORMS[name]
    path = save(with_input(build(), **form), tmp_path / "model.onnx")
    classifier = load_classifier(f"onnx:{path}?resize=16{options}", classes=CLASSES)
    found = classifier.predict(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize(
    ("kind", "zero"), [(TensorProto.UINT8, 131), (TensorProto.INT8, -5), (TensorProto.UINT8, 0)]
)
def test_normalized_images_are_quantized_by_the_graph_s_scale(tmp_path, kind, zero, constants):
    scale = 0.019
    path = save(
        with_input(build(), kind=kind, layout="nhwc", quantized=(scale, zero), constants=constants),
        tmp_path / "model.onnx",
    )
    limits = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
    whole = np.clip(np.rint(NORMAL / np.float32(scale)) + zero, limits.min, limits.max)
    seen = ((whole - zero) * scale).astype(np.float32)
    by_hand = run(save(build(), tmp_path / "plain.onnx"), seen)
    classifier = load_classifier(f"onnx:{path}?resize=16&pixels=normalized", classes=CLASSES)
    np.testing.assert_allclose(classifier.predict(IMAGES), by_hand, atol=1e-5)
    assert any(f"scale {scale} and zero point {zero}" in one for one in classifier.assumed)


def test_a_quantized_convolution_states_the_scale(tmp_path):
    def scalar(name, value, dtype=np.float32):
        return numpy_helper.from_array(np.array(value, dtype), name)

    weight = np.random.default_rng(0).integers(-8, 8, (5, 3, 16, 16)).astype(np.int8)
    tensors = [
        scalar("xs", 0.02), scalar("xz", 120, np.uint8), scalar("ws", 0.01), scalar("wz", 0, np.int8),
        scalar("ys", 0.2), scalar("yz", 128, np.uint8), numpy_helper.from_array(weight, "w"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QLinearConv", ["image", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "ys", "yz"], ["r"]),
        helper.make_node("Flatten", ["r"], ["logits"]),
    ]
    model = model_of(nodes, tensors)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    path = save(model, tmp_path / "model.onnx")
    found = load_classifier(f"onnx:{path}?resize=16&pixels=normalized", classes=CLASSES)
    whole = np.clip(np.rint(NORMAL / np.float32(0.02)) + 120, 0, 255) - 120
    sums = np.einsum("ncij,kcij->nk", whole, weight.astype(float)) * 0.02 * 0.01
    by_hand = (np.clip(np.rint(sums / 0.2) + 128, 0, 255) - 128) * 0.2
    np.testing.assert_allclose(found.predict(IMAGES), by_hand, atol=0.21)  # a step of the output


def test_weights_in_half_precision_give_float32(expected, tmp_path):
    path = save(build(kind=TensorProto.FLOAT16), tmp_path / "half.onnx")
    found = load_classifier(f"onnx:{path}?resize=16", classes=CLASSES).predict(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-2)


def test_a_gray_input_may_have_its_channel_last(tmp_path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["logits"]),
    ]
    weight = np.arange(1, 6, dtype=np.float32)[None]
    model = model_of(nodes, [numpy_helper.from_array(weight, "w")])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    path = save(with_input(model, layout="nhwc"), tmp_path / "gray.onnx")
    classifier = load_classifier(f"onnx:{path}", mean=(0.25,), std=(0.5,))
    image = np.full((1, 16, 16, 3), 51, np.uint8)
    np.testing.assert_allclose(classifier.predict(image), (0.2 - 0.25) / 0.5 * weight, atol=1e-5)


def test_an_encoder_takes_the_same_inputs(expected, tmp_path):
    form = {"kind": TensorProto.UINT8, "layout": "nhwc", "scaling": (MEAN, STD)}
    path = save(with_input(build(), **form), tmp_path / "encoder.onnx")
    encoder = load_encoder(f"onnx:{path}?resize=16&pixels=0..255", normalize=False)
    np.testing.assert_allclose(encoder.encode(IMAGES), expected, atol=1e-5)
    assert load_encoder(f"onnx:{path}", layout="nhwc", pixels="0..255").width == 5


# ---------------------------------------------------------------- what is not stated


@pytest.mark.parametrize(
    ("form", "options", "error", "words"),
    [
        ({"dims": [None] * 4}, "", InputError, "layout=nchw for .N, C, H, W., layout=nhwc"),
        ({"dims": ["n", 3, 16, 3]}, "", InputError, "do not say where the channels are"),
        ({"layout": "nhwc"}, "layout=nchw", ModelError, "axes of its input are nhwc"),
        ({}, "layout=nhwc", ModelError, "axes of its input are nchw .*Leave layout out"),
        ({}, "layout=hwc", UnknownNameError, "Unknown layout 'hwc'"),
        ({}, "pixels=0-255", UnknownNameError, "Unknown pixels '0-255'"),
        (
            {"kind": TensorProto.UINT8, "quantized": (0.02, 128)}, "", InputError,
            r"uint8, which the graph dequantizes .scale 0.02, zero point 128.*pixels=0\.\.255 for the "
            "pixels as they are, pixels=normalized for images normalized by mean and std",
        ),
        (
            {"kind": TensorProto.UINT8}, "pixels=normalized", ModelError,
            r"its scale is not known; only pixels=0\.\.255",
        ),
        ({"kind": TensorProto.INT8}, "", ModelError, "Export it with a float or uint8 input"),
        (
            {"kind": TensorProto.INT8, "quantized": (0.02, 0)}, "pixels=0..255", ModelError,
            "int8, which does not hold pixels 0..255; write pixels=normalized",
        ),
        ({"kind": TensorProto.UINT8}, "mean=0,0,0", InputError, "so mean cannot be applied. Leave it"),
        (
            {}, "pixels=0..255&mean=0,0,0&std=1,1,1", InputError,
            "mean and std cannot be applied. Leave them out, or write pixels=normalized",
        ),
        ({"kind": TensorProto.INT64}, "", ModelError, r"got 'given' of tensor\(int64\)"),
        ({"kind": TensorProto.BFLOAT16}, "", ModelError, r"of tensor\(bfloat16\)"),
    ],
)  # fmt: skip
def test_what_is_open_or_does_not_fit_is_refused(tmp_path, form, options, error, words):
    path = tmp_path / "model.onnx"
    onnx.save(with_input(build(), **form), path)
    with pytest.raises(error, match=words):
        load_classifier(f"onnx:{path}?{options}" if options else f"onnx:{path}", classes=CLASSES)


def test_what_is_assumed_is_told_and_recorded(tmp_path):
    form = {"kind": TensorProto.UINT8, "layout": "nhwc", "scaling": (MEAN, STD)}
    path = save(with_input(build(), **form), tmp_path / "model.onnx")
    classifier = load_classifier(f"onnx:{path}", classes=CLASSES)
    assert "the graph takes uint8 (N, H, W, C)" in classifier.assumed
    assert "pixels 0..255 as they are" in classifier.assumed[0]
    preprocess = classifier.settings["preprocess"]
    assert preprocess["mean"] == [0, 0, 0]
    assert preprocess["std"] == pytest.approx([1 / 255] * 3)


def test_a_run_is_not_resumed_with_another_layout(tmp_path):
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["logits"]),
    ]
    weight = numpy_helper.from_array(np.ones((3, 5), np.float32), "w")
    model = model_of(nodes, [weight], size=3)
    onnx.save(model, path)
    first, last = (
        load_classifier(f"onnx:{path}", classes=CLASSES, layout=layout).settings["fingerprint"]
        for layout in ("nchw", "nhwc")
    )
    assert first != last
    plain = tmp_path / "plain.onnx"
    onnx.save(build(), plain)
    one, other = (
        load_classifier(f"onnx:{plain}", classes=CLASSES, layout=layout).settings
        for layout in (None, "nchw")
    )
    assert one == other


# ---------------------------------------------------------------- segmenters and detectors


def make_segmenter(kind=TensorProto.FLOAT, outputs="nchw", argmax=False, size=16, dims=True):
    """A convolution from 3 channels to 4 classes; size and dims of the output may be open."""
    weight = np.random.default_rng(5).normal(size=(4, 3, 3, 3))
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [helper.make_node("Conv", ["image", "w"], ["raw"], pads=[1, 1, 1, 1])]
    last = "raw"
    if outputs == "nhwc":
        nodes.append(helper.make_node("Transpose", [last], ["moved"], perm=[0, 2, 3, 1]))
        last = "moved"
    shape = ["n", 4, size, size] if outputs == "nchw" else ["n", size, size, 4]
    if argmax:
        axis = 1 if outputs == "nchw" else 3
        nodes.append(helper.make_node("ArgMax", [last], ["labels"], axis=axis, keepdims=1))
        last, shape[axis] = "labels", 1
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    model = model_of(nodes, [numpy_helper.from_array(weight.astype(dtype), "w")], kind=kind)
    answer = helper.make_tensor_value_info(
        "logits", TensorProto.INT64 if argmax else kind, shape if dims else [None] * 4
    )
    model.graph.ClearField("output")
    model.graph.output.append(answer)
    return model


@pytest.mark.parametrize("dims", [True, False])
@pytest.mark.parametrize("argmax", [True, False])
@pytest.mark.parametrize("outputs", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "form",
    [
        {"layout": "nhwc"},
        {"kind": TensorProto.UINT8, "layout": "nhwc", "scaling": (MEAN, STD)},
        {"kind": TensorProto.UINT8, "layout": "nhwc", "quantized": (0.02, 118)},
    ],
)
def test_a_segmenter_takes_the_same_inputs(tmp_path, form, outputs, argmax, dims):
    plain = save(make_segmenter(), tmp_path / "plain.onnx")
    model = with_input(make_segmenter(outputs=outputs, argmax=argmax, dims=dims), **form)
    path = save(model, tmp_path / "model.onnx")
    options = {"pixels": "normalized"} if "quantized" in form else {}
    by_hand = run(plain, NORMAL).argmax(1)
    found = load_segmenter(f"onnx:{path}", classes=list("abcd"), **options).predict(IMAGES)
    same = np.mean([one == other for one, other in zip(found, by_hand, strict=True)])
    assert same == 1 if "quantized" not in form else same > 0.97


def test_a_segmenter_in_half_precision_gives_float32(tmp_path):
    path = save(make_segmenter(TensorProto.FLOAT16), tmp_path / "half.onnx")
    segmenter = load_segmenter(f"onnx:{path}", classes=list("abcd"))
    logits = segmenter.module(NORMAL)
    assert logits.dtype == np.float32
    expected = run(save(make_segmenter(), tmp_path / "plain.onnx"), NORMAL)
    np.testing.assert_allclose(logits, expected, atol=2e-2)


def test_channels_of_an_output_that_could_be_either_are_to_be_stated(tmp_path):
    nodes = [
        helper.make_node("Pad", ["image", "pads"], ["logits"]),
    ]
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 13, 0, 0]), "pads")
    model = model_of(nodes, [pads])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 16, 16, 16])
    model.graph.ClearField("output")
    model.graph.output.append(answer)
    path = save(model, tmp_path / "model.onnx")
    names = [f"class{index}" for index in range(16)]
    with pytest.raises(
        InputError, match=r"output_layout=nchw for .N, C, H, W., output_layout=nhwc"
    ):
        load_segmenter(f"onnx:{path}", classes=names)
    with pytest.raises(UnknownNameError, match="Unknown layout 'chw'"):
        load_segmenter(f"onnx:{path}?output_layout=chw", classes=names)
    segmenters = [
        load_segmenter(f"onnx:{path}?output_layout={layout}", classes=names)
        for layout in ("nchw", "NHWC")
    ]
    first, last = (one.predict(IMAGES) for one in segmenters)
    assert len({one.settings["fingerprint"] for one in segmenters}) == 2
    padded = np.concatenate([NORMAL, np.zeros((5, 13, 16, 16), np.float32)], axis=1)
    np.testing.assert_array_equal(first, padded.argmax(1))
    np.testing.assert_array_equal(last, padded.argmax(3))


def make_detector(kind=TensorProto.FLOAT):
    """A graph of the decoding yolov8 with two classes and 16 anchors."""
    draw = np.random.default_rng(7)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    tensors = {
        "w": draw.normal(size=(6, 3, 4, 4)).astype(dtype),
        "s": np.array([16, 16, 9, 9, 1, 1], dtype).reshape(1, 6, 1, 1),
        "shape": np.array([0, 6, -1]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], strides=[4, 4]),
        helper.make_node("Sigmoid", ["c"], ["p"]),
        helper.make_node("Mul", ["p", "s"], ["m"]),
        helper.make_node("Reshape", ["m", "shape"], ["logits"]),
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    model = model_of(nodes, kept, kind=kind)
    model.graph.ClearField("output")
    model.graph.output.append(helper.make_tensor_value_info("logits", kind, ["n", 6, 16]))
    return model


@pytest.mark.parametrize(
    ("kind", "form", "options", "tolerance"),
    [
        (TensorProto.FLOAT, {"layout": "nhwc"}, "", 1e-4),
        (TensorProto.FLOAT16, {"layout": "nhwc"}, "", 0.1),
        (TensorProto.FLOAT, {"scaling": ((0,) * 3, (1,) * 3)}, "&pixels=0..255", 1e-4),
        (
            TensorProto.FLOAT, {"kind": TensorProto.UINT8, "scaling": ((0,) * 3, (1,) * 3)}, "", 1e-4,
        ),
        (
            TensorProto.FLOAT, {"kind": TensorProto.UINT8, "layout": "nhwc", "quantized": (1 / 255, 0)},
            "&pixels=0..1", 1e-4,
        ),
    ],
)  # fmt: skip
def test_a_detector_takes_the_same_inputs(tmp_path, kind, form, options, tolerance):
    plain = save(make_detector(), tmp_path / "plain.onnx")
    path = save(with_input(make_detector(kind), **form), tmp_path / "model.onnx")
    spec = "?decode=yolov8&score=0.05&overlap=1"
    expected, found = (
        load_detector(f"onnx:{file}{spec}{more}", classes=["cat", "dog"]).predict(IMAGES)
        for file, more in ((plain, ""), (path, options))
    )
    for one, other in zip(expected, found, strict=True):
        assert other.scores.dtype == other.boxes.dtype == np.float32
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(other.scores, one.scores, atol=tolerance)
        if kind == TensorProto.FLOAT:
            np.testing.assert_allclose(other.boxes, one.boxes, atol=tolerance)
            np.testing.assert_array_equal(other.labels, one.labels)


def test_a_detector_has_no_mean_to_normalize_by(tmp_path):
    path = save(make_detector(), tmp_path / "model.onnx")
    with pytest.raises(UnknownNameError, match="Unknown pixels 'normalized'"):
        load_detector(f"onnx:{path}?decode=yolov8&pixels=normalized", classes=["cat", "dog"])
    detector = load_detector(f"onnx:{path}?decode=yolov8&pixels=0..255", classes=["cat", "dog"])
    assert detector.settings["convention"]["pixels"] == "0..255"
    assert "pixels 0..255 as they are" in detector.assumed


def test_a_run_measures_such_a_file(expected, tmp_path):
    from shiftproof.data import ImageArrays

    form = {"kind": TensorProto.UINT8, "layout": "nhwc", "scaling": (MEAN, STD)}
    path = save(with_input(build(), **form), tmp_path / "model.onnx")
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    labels = [int(label) for label in expected.argmax(1)]
    measured = bench.run(
        f"onnx:{path}?resize=16&classes={tmp_path / 'names.txt'}",
        ImageArrays(IMAGES, labels=labels, classes=load_classifier(
            f"onnx:{path}", classes=CLASSES
        ).classes),
        corruptions=["fog"], severities=[1], out=tmp_path / "run", workers=0, show_progress=False,
    )  # fmt: skip
    assert measured.cell("source", "clean", 0).prediction.tolist() == labels
