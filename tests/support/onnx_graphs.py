"""Small ONNX graphs with batch norm, from hand or torch's exporters, run by ONNX Runtime."""

import warnings

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from support.small_networks import convolutional


def run(path, inputs, name="image"):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(inputs)})[0]


def stored(module=None):
    """Return the weights of ``convolutional``, by layer name."""
    module = convolutional() if module is None else module
    return {name: value.numpy() for name, value in module.state_dict().items()}


def build(opset=17, batch="n", constants=False, kind=TensorProto.FLOAT, weights=None, relu="Relu"):
    """Build the network ``convolutional`` as a graph: Conv, norm, Relu, Conv, norm, Relu, pool, Gemm."""
    weights = stored() if weights is None else weights
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    kept = {
        name: value.astype(dtype) for name, value in weights.items() if not name.endswith("tracked")
    }
    nodes = [
        helper.make_node("Conv", ["image", "0.weight", "0.bias"], ["c0"], name="conv0"),
        norm_node("1", "c0", "b0", epsilon=1e-3),
        helper.make_node(relu, ["b0"], ["r0"]),
        helper.make_node("Conv", ["r0", "4.weight"], ["c1"], name="conv1"),
        norm_node("5", "c1", "b1", epsilon=1e-5),
        helper.make_node(relu, ["b1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "9.weight", "9.bias"], ["logits"], transB=1),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in kept.items()]
    if constants:
        made = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
        nodes, tensors = made + nodes, []
    return model_of(nodes, tensors, opset=opset, batch=batch, kind=kind)


def norm_node(layer, values, result, **settings):
    keys = ["weight", "bias", "running_mean", "running_var"]
    inputs = [values, *(f"{layer}.{key}" for key in keys)]
    return helper.make_node("BatchNormalization", inputs, [result], name=f"norm{layer}", **settings)


def model_of(nodes, tensors, *, opset=17, batch="n", kind=TensorProto.FLOAT, size=16, outputs=5):
    imports = [helper.make_opsetid("", opset)]
    ir_version = helper.find_min_ir_version_for(imports)
    image = helper.make_tensor_value_info("image", kind, [batch, 3, size, size])
    logits = helper.make_tensor_value_info("logits", kind, [batch, outputs])
    inputs = [image]
    if ir_version < 4:
        inputs += [
            helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors
        ]
    graph = helper.make_graph(nodes, "net", inputs, [logits], tensors)
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def export(module, path, *, dynamo=False, unfolded=True, size=16, batch=4):
    """Write a module by one of torch's exporters."""
    image = torch.rand(batch, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("n")},)
            program = torch.onnx.export(
                module.eval(), (image,), dynamo=True, optimize=not unfolded, dynamic_shapes=shapes,
                input_names=["image"], verbose=False,
            )  # fmt: skip
            program.save(str(path))
        else:
            mode = torch.onnx.TrainingMode.PRESERVE if unfolded else torch.onnx.TrainingMode.EVAL
            torch.onnx.export(
                module.eval(), (image,), str(path), dynamo=False, training=mode, opset_version=17,
                input_names=["image"], dynamic_axes={"image": {0: "n"}},
            )  # fmt: skip
    return path


def with_input(
    model, *, layout="nchw", kind=None, dims=None, scaling=None, quantized=None, constants=False
):
    """Return a graph whose input becomes that of ``model`` by a Transpose, a Cast and more.

    ``scaling`` is a mean and deviation by which the graph normalizes pixels 0..255 itself;
    ``quantized`` a scale and zero point with which it dequantizes its input.
    """
    changed = type(model)()
    changed.CopyFrom(model)
    [image] = changed.graph.input
    element = image.type.tensor_type.elem_type
    axes = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    kind = element if kind is None else kind
    if layout == "nhwc":
        axes = [axes[0], axes[2], axes[3], axes[1]]
    nodes, tensors, value = [], [], "given"
    if quantized is not None:
        tensors += [
            numpy_helper.from_array(np.array(quantized[0], np.float32), "scale"),
            helper.make_tensor("zero", kind, [], [quantized[1]]),
        ]
        nodes.append(helper.make_node("DequantizeLinear", [value, "scale", "zero"], ["whole"]))
        value = "whole"
    elif kind != element:
        nodes.append(helper.make_node("Cast", [value], ["cast"], to=element))
        value = "cast"
    if layout == "nhwc":
        # Before the scale, as converters of TensorFlow write it.
        nodes.insert(
            0, helper.make_node("Transpose", ["given"], ["channels_first"], perm=[0, 3, 1, 2])
        )
        if len(nodes) > 1:
            nodes[1].input[0] = "channels_first"
        else:
            value = "channels_first"
    if scaling is not None:
        mean, std = (np.array(one, np.float32).reshape(1, -1, 1, 1) * 255 for one in scaling)
        tensors += [numpy_helper.from_array(mean, "mean"), numpy_helper.from_array(std, "std")]
        nodes.append(helper.make_node("Sub", [value, "mean"], ["centered"]))
        nodes.append(helper.make_node("Div", ["centered", "std"], ["normal"]))
        value = "normal"
    nodes.append(helper.make_node("Identity", [value], ["image"]))
    if constants:
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] + nodes
        tensors = []
    given = helper.make_tensor_value_info("given", kind, axes if dims is None else dims)
    kept = [*nodes, *changed.graph.node]
    for field, content in (("input", [given]), ("node", kept)):
        changed.graph.ClearField(field)
        getattr(changed.graph, field).extend(content)
    changed.graph.initializer.extend(tensors)
    return changed
