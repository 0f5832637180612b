"""The examples in the docstrings run, in every module that has some."""

import doctest
import importlib
import pkgutil

import pytest

import shiftproof
import shiftproof_reproduce

MODULES = sorted(
    module.name
    for package in (shiftproof, shiftproof_reproduce)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = {
    "shiftproof",
    "shiftproof.adapt.batchnorm",
    "shiftproof.adapt.context",
    "shiftproof.testing.adapters",
    "shiftproof.adapt.lame",
    "shiftproof.adapt.losses",
    "shiftproof.adapt.norms",
    "shiftproof.adapt.rdumb",
    "shiftproof.adapt.selflearning",
    "shiftproof.adapt.state",
    "shiftproof.adapt.table",
    "shiftproof.contrastive.losses",
    "shiftproof.contrastive.memory",
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
    "shiftproof_reproduce.spelling",
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
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert tried > 0 or name not in WITH_EXAMPLES
