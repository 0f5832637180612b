"""What ``merge()`` returns goes on into torch.export, TorchScript, torch.compile, ONNX and int8."""

import warnings

import numpy as np
import pytest
import torch

from shiftproof.adapt import ADAPTERS, make_adapter
from support.norm_networks import classifier_of, network
from support.onnx_graphs import export, run

FOR_CLIP = {"clipartt", "tda", "tpt", "zero"}
SPECS = [
    f"{name}+batchnorm" if entry.wraps else name
    for name, entry in ADAPTERS.items()
    if name not in FOR_CLIP
]


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) ** 2


def merge(spec, images):
    adapter = make_adapter(spec, classifier_of(network("batch")))
    adapter(images)
    return adapter.merge().eval()


def normalize(images):
    return (images - 0.5) / 0.5


@pytest.mark.parametrize("spec", SPECS)
def test_the_merged_model_of_every_adapter_is_exported_and_scripted(spec, images):
    module, inputs = merge(spec, images), normalize(images)
    with torch.no_grad():
        expected = module(inputs)
        exported = torch.export.export(module, (inputs,)).module()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and says so
            traced, scripted = torch.jit.trace(module, inputs), torch.jit.script(module)
        for deployed in (exported, traced, scripted):
            torch.testing.assert_close(deployed(inputs), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spec", ["batchnorm:prior=0", "ent:lr=0.1", "t3a"])
def test_merged_models_are_compiled(spec, images):
    """One of each kind: other statistics, other parameters, another last layer."""
    module, inputs = merge(spec, images), normalize(images)
    with torch.no_grad():
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(inputs), module(inputs), rtol=0, atol=1e-6)


def test_what_was_learned_is_in_what_is_deployed(images):
    source = network("batch").eval()
    inputs = normalize(images)
    for spec in ("batchnorm:prior=0", "ent:lr=0.1"):
        exported = torch.export.export(merge(spec, images), (inputs,)).module()
        assert (exported(inputs) - source(inputs)).abs().max() > 0.1


@pytest.mark.parametrize("spec", ["batchnorm:prior=0", "ent:lr=0.1"])
def test_a_merged_model_in_onnx_and_in_int8(spec, images, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter([{"image": normalize(images).numpy()}])

        def get_next(self):
            return next(self.left, None)

    module, inputs = merge(spec, images), normalize(images)
    export(module, tmp_path / "merged.onnx", unfolded=False)
    with torch.no_grad():
        expected = module(inputs).numpy()
    np.testing.assert_allclose(run(tmp_path / "merged.onnx", inputs), expected, atol=1e-5)
    quantize_static(
        tmp_path / "merged.onnx", tmp_path / "int8.onnx", Reader(), quant_format=QuantFormat.QDQ
    )
    answers = run(tmp_path / "int8.onnx", inputs)
    spread = expected.std()
    assert np.abs(answers - expected).max() < 0.1 * spread
    assert np.abs(answers - expected).max() > 0
