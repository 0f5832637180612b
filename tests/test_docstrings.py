"""Docstrings: their examples run, and they say what a caller has to know."""

import doctest
import importlib
import inspect
import linecache
import pkgutil
import re
from pathlib import Path

import pytest

import shiftproof
import shiftproof_reproduce
from test_surface import SURFACE

MODULES = sorted(
    module.name
    for package in (shiftproof, shiftproof_reproduce)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = {
    "shiftproof",
    "shiftproof.adapt.methods.batchnorm",
    "shiftproof.adapt.context",
    "shiftproof.testing.adapters",
    "shiftproof.adapt.methods.lame",
    "shiftproof.adapt.learning.losses",
    "shiftproof.adapt.normalization.layer_choice",
    "shiftproof.adapt.methods.rdumb",
    "shiftproof.adapt.methods.selflearning",
    "shiftproof.adapt.base.state",
    "shiftproof.adapt.table",
    "shiftproof.contrastive.losses",
    "shiftproof.contrastive.negatives",
    "shiftproof.contrastive.mixing",
    "shiftproof.probe.factors",
    "shiftproof.contrastive.process",
    "shiftproof.contrastive.start",
    "shiftproof.corruptions.table",
    "shiftproof.io.manifest",
    "shiftproof.metrics.corruption",
    "shiftproof.metrics.identifiability",
    "shiftproof.models.encoders.encoder",
    "shiftproof.testing.encoders",
    "shiftproof.models.classifiers.load",
    "shiftproof.models.encoders.load",
    "shiftproof.report.svg.figures",
    "shiftproof_reproduce.published",
    "shiftproof_reproduce.result",
    "shiftproof_reproduce.formatting",
    "shiftproof_reproduce.train_test_paper",
    "shiftproof_reproduce.training",
    "shiftproof.rng",
    "shiftproof.similarity.dedup",
    "shiftproof.similarity.gap",
    "shiftproof.similarity.questions.nearest",
    "shiftproof.similarity.questions.top_k",
    "shiftproof.similarity.plan",
    "shiftproof.similarity.prune",
    "shiftproof.similarity.search.options",
    "shiftproof.similarity.sources",
    "shiftproof.specs",
    "shiftproof.stylize.apply",
    "shiftproof.testing.corruptions",
}


@pytest.mark.parametrize("name", ["shiftproof", *MODULES])
def test_examples(name):
    module = importlib.import_module(name)
    failed = tried = 0
    # To look through what has none takes longer than to run the examples of what has some.
    if ">>>" in Path(module.__file__).read_text(encoding="utf-8"):
        linecache.clearcache()  # doctest looks at each of its hundreds of files before every example
        failed, tried = doctest.testmod(module)
    assert failed == 0, "an example prints something else than it says; see above"
    assert tried > 0 or name not in WITH_EXAMPLES, "expected an example (>>>), as there was one"


ARRAYS = re.compile(r"ArrayLike|NDArray|\b(F16|F32|F64|I32|I64|U8|Image|Images|Logits|Flags)\b")
SHAPE = re.compile(r"``\([^`]*[,.]\)?[^`]*``|shape|:func:|:class:")
"""A shape as `(N, K)`, or the function whose arguments these are."""


def list_functions():
    """The public functions, each once, with the first place where it is public."""
    found = {}
    for module, names in SURFACE.items():
        for name in sorted(names):
            value = getattr(importlib.import_module(module), name)
            if inspect.isfunction(value):
                found.setdefault(value, f"{module}.{name}")
    return found


@pytest.mark.parametrize("function", list_functions(), ids=list_functions().values())
def test_a_public_function_says_what_it_raises_and_the_shapes_of_arrays(function):
    docstring = inspect.getdoc(function)
    assert docstring, "expected a docstring"
    source = inspect.getsource(inspect.unwrap(function))
    if re.search(r"^\s+raise [A-Z]", source, re.MULTILINE):
        assert "Raises:" in docstring or ":func:" in docstring, (
            "it raises: say what and when below 'Raises:', or name the function that does (:func:)"
        )
    if any(ARRAYS.search(str(hint)) for hint in function.__annotations__.values()):
        assert SHAPE.search(docstring), "it takes or gives arrays: say their shapes, as ``(N, K)``"


def test_every_public_class_and_its_methods_have_a_docstring():
    for module, names in SURFACE.items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if not inspect.isclass(value) or not value.__module__.startswith("shiftproof"):
                continue
            assert inspect.getdoc(value), f"{module}.{name} needs a docstring"
            for own, method in vars(value).items():
                if inspect.isfunction(method) and not own.startswith("_"):
                    docstring = inspect.getdoc(getattr(value, own))
                    assert docstring, f"{module}.{name}.{own} needs a docstring"
