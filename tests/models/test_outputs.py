"""What a network returns beside its logits or vectors is taken off by a stated rule."""

import collections
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof import Classifier, Encoder, Preprocess
from shiftproof.adapt import make_adapter

PREPROCESS = Preprocess((8, 8), 8)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


@dataclasses.dataclass
class Answer:
    loss: object
    logits: object
    features: object


@dataclasses.dataclass
class Scores:
    scores: object
    note: str


Named = collections.namedtuple("Named", ["aux", "logits"])


def model_output(x):
    modeling = pytest.importorskip("transformers.modeling_outputs", exc_type=ImportError)
    return modeling.ImageClassifierOutput(logits=x, hidden_states=(x + 1,))


FORMS = {
    "tensor": lambda x: x,
    "dict": lambda x: {"loss": x.sum(), "logits": x},
    "dict of one tensor": lambda x: {"scores": x, "note": "text"},
    "dataclass of one tensor": lambda x: Scores(x, "text"),
    "dataclass": lambda x: Answer(None, x, x + 1),
    "tuple": lambda x: (x, x + 1),
    "list": lambda x: [x, x + 1],
    "named tuple": lambda x: Named(x + 1, x),
    "ModelOutput": model_output,
}


class Wrapped(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.form(self.norm(x).mean((2, 3)))


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found_in_whatever_holds_them(form):
    plain = Classifier(Wrapped(FORMS["tensor"]), PREPROCESS)
    held = Classifier(Wrapped(FORMS[form]), PREPROCESS)
    assert len(held.classes) == 3
    np.testing.assert_array_equal(held.predict(IMAGES), plain.predict(IMAGES))
    adapted = make_adapter("batchnorm", held).predict(IMAGES)
    np.testing.assert_array_equal(adapted, make_adapter("batchnorm", plain).predict(IMAGES))


@pytest.mark.parametrize("form", ["dict of one tensor", "dataclass", "tuple"])
def test_functions_of_arrays_too(form):
    means = Classifier(lambda x: FORMS[form](x.mean((2, 3))), PREPROCESS)
    expected = PREPROCESS.normalize(IMAGES).mean((2, 3))
    np.testing.assert_allclose(means.predict(IMAGES), expected, rtol=1e-6)


def test_vectors_by_the_names_that_libraries_have():
    class Backbone(nn.Module):
        def forward(self, x):
            return {"last_hidden_state": x, "pooler_output": x.mean((2, 3))}

    encoder = Encoder(Backbone(), PREPROCESS, normalize=False)
    expected = PREPROCESS.normalize(IMAGES).mean((2, 3))
    np.testing.assert_allclose(encoder.encode(IMAGES), expected, rtol=1e-5)
    assert torch.is_grad_enabled()
