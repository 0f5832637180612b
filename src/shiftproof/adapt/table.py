"""The adapters by name, and their spec strings."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.base.clean_images import check_clean_option
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.models.classifiers.classifier import ClassifierLike
from shiftproof.models.structure import require_torch
from shiftproof.specs import read_number, read_options, read_switch, split_name

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AdapterEntry:
    """One row of ``ADAPTERS``: how the command line makes an adapter.

    ``make`` is called with the classifier and the options as keywords; ``options`` has the function
    that reads each from its text. A wrapper is called with an adapter instead of the classifier. If
    ``gathers``, the last option is a list of adapters with pluses between them.
    """

    make: Callable[..., Adapter]
    description: str
    options: Mapping[str, Callable[[str], object]]
    wraps: bool = False
    gathers: bool = False


_Choice: TypeAlias = tuple[AdapterEntry, dict[str, object]]
"""The adapter that a part of a spec names, and its options."""


def read_experts(text: str) -> list[str]:
    """Split a list of specs at its pluses; a wrapper stays with the adapter after it.

    >>> read_experts("batchnorm+guard+rpl:lr=1e+3")
    ['batchnorm', 'guard+rpl:lr=1e+3']
    """
    found: list[str] = []
    waiting = ""
    for part in _split_parts(text):
        name, _ = split_name(part)
        if name in ADAPTERS and ADAPTERS[name].wraps:
            waiting += f"{part}+"
        else:
            found.append(waiting + part)
            waiting = ""
    # A wrapper without an adapter is an error of ``make_adapter``.
    return [*found, waiting[:-1]] if waiting else found


def _split_parts(spec: str) -> list[str]:
    """Split a spec at its pluses, except those before a digit, which belong to a number (1e+3)."""
    return re.split(r"\+(?!\d)", spec.strip())


def _defer(module: str, kind: str, **fixed: str) -> Callable[..., Adapter]:
    """Return a function that makes an adapter; it imports the adapter's module, and with it
    torch.
    """

    def make(model: object, **options: object) -> Adapter:
        require_torch()
        adapter_class = getattr(importlib.import_module(f"shiftproof.adapt.{module}"), kind)
        return cast("Adapter", adapter_class(model, **fixed, **options))

    return make


def read_number_or_auto(text: str) -> float | str:
    """Read ``"auto"`` or a number, as an option's value on the command line."""
    return "auto" if text == "auto" else read_number(text)


def _read_switch_or_auto(text: str) -> bool | str:
    return "auto" if text == "auto" else read_switch(text)


def _read_cells(text: str) -> int | str:
    return "all" if text == "all" else int(text)


def _read_prior(text: str) -> float | str:
    return text if text in ("measured", "layerwise") else read_number_or_auto(text)


_BATCHNORM: dict[str, Callable[[str], object]] = {
    "prior": _read_prior, "over": str, "momentum": float, "warm_up": int, "parts": str,
    "layers": str,
}  # fmt: skip
_SELF_LEARNING: dict[str, Callable[[str], object]] = {
    "lr": read_number_or_auto, "momentum": float, "q": float, "threshold": float, "parameters": str,
    "layers": str, "prior": _read_prior, "preset": str, "teacher": str, "answers": str,
    "sees": str,
}  # fmt: skip
_LEARNING: dict[str, Callable[[str], object]] = {
    "lr": read_number_or_auto, "momentum": float, "layers": str, "prior": _read_prior,
}  # fmt: skip

ADAPTERS: dict[str, AdapterEntry] = {
    "batchnorm": AdapterEntry(
        _defer("methods.batchnorm", "BatchNorm"),
        "Mix each batch's statistics into the batch-norm layers (Schneider et al. 2020), by the "
        "batch's measured distance from the source; prior=N gives the source the weight of N images.",
        _BATCHNORM,
    ),
    "rpl": AdapterEntry(
        _defer("methods.selflearning", "SelfLearning", loss="rpl"),
        "Learn from robust pseudo-labels, one step per batch (Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "ent": AdapterEntry(
        _defer("methods.selflearning", "SelfLearning", loss="ent"),
        "Minimize the entropy of the predictions, one step per batch (TENT; Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "hard": AdapterEntry(
        _defer("methods.selflearning", "SelfLearning", loss="hard"),
        "Learn from the classes that a teacher predicts (Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "soft": AdapterEntry(
        _defer("methods.selflearning", "SelfLearning", loss="soft"),
        "Learn from a teacher's whole distribution (Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "actmad": AdapterEntry(
        _defer("methods.actmad", "ActMAD"),
        "Match mean and variance of the features with those of clean images (Mirza et al. 2023): "
        "clean=FOLDER, else batch norm's running statistics.",
        {
            "clean": str,
            "cells": _read_cells,
            "lr": read_number_or_auto,
            "momentum": float,
            "parameters": str,
            "layers": str,
            "few_classes": str,
        },
    ),
    "cotta": AdapterEntry(
        _defer("methods.cotta", "CoTTA"),
        "Learn all weights from a slow teacher that sees each batch augmented, and restore some at "
        "random (Wang et al. 2022).",
        {
            "lr": read_number,
            "optimizer": str,
            "momentum": read_number,
            "restore": read_number,
            "threshold": read_number,
            "augmentations": int,
            "loss": str,
            "prior": _read_prior,
            "seed": int,
        },
    ),
    "rotta": AdapterEntry(
        _defer("methods.rotta", "RoTTA"),
        "Learn from a balanced memory of recent images with a slow teacher and moving statistics "
        "(Yuan et al. 2023).",
        {
            "lr": read_number,
            "momentum": read_number,
            "weight": read_number,
            "memory": int,
            "every": int,
            "timeliness": read_number,
            "uncertainty": read_number,
            "seed": int,
            "few_classes": str,
        },
    ),
    "note": AdapterEntry(
        _defer("methods.note", "NOTE"),
        "Correct batch norm image by image, and learn from a memory that is balanced over classes "
        "(Gong et al. 2022).",
        {
            "lr": read_number,
            "k": read_number,
            "weight": read_number,
            "memory": int,
            "every": int,
            "seed": int,
        },
    ),
    "memo": AdapterEntry(
        _defer("methods.memo", "MEMO"),
        "For each image alone, minimize the entropy of the mean prediction over its augmentations "
        "(Zhang et al. 2022).",
        {
            "lr": read_number,
            "optimizer": str,
            "augmentations": int,
            "steps": int,
            "crop": str,
            "prior": read_number,
            "seed": int,
        },
    ),
    "lame": AdapterEntry(
        _defer("methods.lame", "LAME"),
        "Assign classes to batches of few classes jointly (Boudiaf et al. 2022); preset=paper: to "
        "all. Changes no parameter.",
        {"neighbors": int, "links": str, "preset": str},
    ),
    "eata": AdapterEntry(
        _defer("methods.eata", "EATA"),
        "Minimize the entropy of reliable, non-redundant predictions (ETA; Niu et al. 2022). In Python, "
        "with images like the source's, EATA: with a Fisher regularizer.",
        {"margin": float, "similarity": read_number_or_auto, **_LEARNING},
    ),
    "sar": AdapterEntry(
        _defer("methods.sar", "SAR"),
        "Minimize the entropy of reliable predictions and its sharpness (Niu et al. 2023); for small "
        "batches and networks with layer or group norm.",
        {"margin": float, "rho": float, "recovery": float, **_LEARNING},
    ),
    "deyo": AdapterEntry(
        _defer("methods.deyo", "DeYO"),
        "Minimize the entropy of predictions that change with shuffled patches (Lee et al. 2024).",
        {"margin": float, "drop": float, "patches": int, **_LEARNING},
    ),
    "roid": AdapterEntry(
        _defer("methods.roid", "ROID"),
        "Weighted likelihood ratios, averaged with the source at each step (Marsden et al. 2024).",
        {
            "keep": float,
            "consistency": read_switch,
            "correction": _read_switch_or_auto,
            **_LEARNING,
        },
    ),
    "t3a": AdapterEntry(
        _defer("methods.t3a", "T3A"),
        "Prototypes for the last layer, updated by each batch, for images of low confidence "
        "(Iwasawa & Matsuo 2021); preset=paper: for all. No gradients.",
        {"per_class": int, "preset": str},
    ),
    "tda": AdapterEntry(
        _defer("zero_shot.tda", "TDA"),
        "CLIP: also compare images with confident earlier ones; no gradients (Karmanov et al. 2024).",
        {
            "shots": int,
            "alpha": read_number,
            "beta": read_number,
            "negative_shots": int,
            "negative_alpha": read_number,
            "negative_beta": read_number,
        },
    ),
    "zero": AdapterEntry(
        _defer("zero_shot.zero", "ZERO"),
        "CLIP: for each image alone, a vote of its confident views (Farina et al. 2024).",
        {"views": int, "share": read_number, "seed": int},
    ),
    "tpt": AdapterEntry(
        _defer("zero_shot.tpt", "TPT"),
        "CLIP: for each image alone, tune the prompt so that its confident views agree (Shu et al. 2022).",
        {
            "lr": read_number,
            "steps": int,
            "views": int,
            "share": read_number,
            "template": str,
            "seed": int,
        },
    ),
    "clipartt": AdapterEntry(
        _defer("zero_shot.clipartt", "CLIPArTT"),
        "CLIP: for each batch alone, learn from prompts with its likely classes (Hakim et al. 2024).",
        {
            "lr": read_number,
            "steps": int,
            "top": int,
            "temperature": read_number,
            "template": str,
            "prior": read_number,
        },
    ),
    "rdumb": AdapterEntry(
        _defer("methods.rdumb", "RDumb"),
        "Wraps an adapter: resets it every so many batches (Press et al. 2023).",
        {"every": int},
        wraps=True,
    ),
    "guard": AdapterEntry(
        _defer("safeguards.guard", "Guard"),
        "Wraps an adapter: checks it without labels and rolls it back if it fails.",
        {"window": int, "probation": int, "margin": float},
        wraps=True,
    ),
    "router": AdapterEntry(
        _defer("safeguards.router", "Router"),
        "Runs the source, batchnorm and rpl side by side (or experts=A+B+C, as the last option), and "
        "returns the predictions of the best one, chosen without labels or with a few.",
        {"experts": read_experts},
        gathers=True,
    ),
}
"""Adapters by the name that ``make_adapter`` and the command line take."""


def make_adapter(spec: str, classifier: ClassifierLike | torch.nn.Module) -> Adapter:
    """Make the adapter of a spec string, as the command line takes it.

    Args:
        spec: ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``, with a name of ``ADAPTERS``:
            ``"batchnorm"``, ``"rpl:lr=0.001,layers=last-33%"``. Wrappers stand before it, with a
            plus: ``"guard+rpl"``, ``"guard+rdumb:every=100+ent"``. A router takes a list of
            adapters, with their options:
            ``"router:experts=batchnorm+rpl:lr=0.1,momentum=0.9+guard+ent"``.
        classifier: the classifier to adapt.

    Raises:
        UnknownNameError: no such adapter or option; says the nearest.
        InputError: an option without a value, given twice, or of the wrong kind; a wrapper
            around nothing.
        ModelError: the classifier cannot be adapted that way.

    >>> from shiftproof.models import load_classifier
    >>> make_adapter("batchnorm:prior=0", load_classifier("demo"))
    BatchNorm(prior=0, 49 layers)
    """
    *wrappers, (entry, options) = _read_chain(spec)
    adapter = entry.make(classifier, **options)
    for wrapper, chosen in reversed(wrappers):
        adapter = wrapper.make(adapter, **chosen)
    return adapter


def check_adapter_spec(spec: str) -> None:
    """Check a spec string, without a model.

    Raises:
        UnknownNameError, InputError: as for :func:`make_adapter`; a folder of clean images without
            any.
    """
    for entry, options in _read_chain(spec):
        check_clean_option(options)
        if entry.gathers:
            *_, name = entry.options
            for one in cast("list[str]", options.get(name, [])):
                check_adapter_spec(one)


def _read_chain(spec: str) -> list[_Choice]:
    """Read the wrappers of a spec from the outermost, and the wrapped adapter."""
    *wrappers, last = [_read(part, spec) for part in _join_lists(_split_parts(spec))]
    if last[0].wraps:
        raise InputError(
            f"{spec!r}: expected an adapter that is wrapped, as in '{spec.partition(':')[0]}+rpl'."
        )
    if not all(entry.wraps for entry, _ in wrappers):
        raise InputError(f"{spec!r}: only {', '.join(_list_wrappers())} can stand before a plus.")
    return [*wrappers, last]


def _join_lists(parts: list[str]) -> list[str]:
    """Join the parts after the first adapter of a list with it."""
    for place, part in enumerate(parts):
        name, options = split_name(part)
        if name in ADAPTERS and ADAPTERS[name].gathers and "=" in options:
            return [*parts[:place], "+".join(parts[place:])]
    return parts


def _list_wrappers() -> list[str]:
    return [name for name, entry in ADAPTERS.items() if entry.wraps]


def _read(part: str, spec: str) -> _Choice:
    """Read ``NAME:OPTION=VALUE,OPTION=VALUE``."""
    name, options = split_name(part)
    if name not in ADAPTERS:
        raise UnknownNameError.of("adapter", name, ADAPTERS)
    entry = ADAPTERS[name]
    if entry.gathers:
        return entry, _read_list(options, entry, spec=spec, owner=name)
    return entry, read_options(options, entry.options, spec=spec, owner=name)


def _read_list(options: str, entry: AdapterEntry, *, spec: str, owner: str) -> dict[str, object]:
    """Read the options of a router: the last is the list of adapters, which may contain commas."""
    *_, name = entry.options
    before, found, listed = options.partition(f"{name}=")
    read = read_options(before, entry.options, spec=spec, owner=owner)
    return {**read, name: entry.options[name](listed)} if found else read
