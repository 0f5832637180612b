"""The adapters by name, and the text that the command line takes for them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.clean_images import check_clean_option
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.models.classifiers.classifier import ClassifierLike
from shiftproof.models.structure import require_torch
from shiftproof.specs import read_number, read_options, read_switch, split_name

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AdapterEntry:
    """One row of ``ADAPTERS``: how the command line makes an adapter.

    ``make`` is called with the classifier and the options as keywords, each read from its text
    by the function that ``options`` names. A wrapper is called with an adapter in its place. Of what
    ``gathers``, the last option is a list of adapters with pluses between them.
    """

    make: Callable[..., Adapter]
    description: str
    options: Mapping[str, Callable[[str], object]]
    wraps: bool = False
    gathers: bool = False


_Choice: TypeAlias = tuple[AdapterEntry, dict[str, object]]
"""What a part of a text names, and the options that it gives."""


def read_experts(text: str) -> list[str]:
    """Read specs with pluses between them; a wrapper goes with what stands behind it.

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
    # A wrapper of nothing is refused where it is made.
    return [*found, waiting[:-1]] if waiting else found


def _split_parts(spec: str) -> list[str]:
    """Split a text at its pluses, but for those before a digit, which belong to a number (1e+3)."""
    return re.split(r"\+(?!\d)", spec.strip())


def _maker(module: str, kind: str, **fixed: str) -> Callable[..., Adapter]:
    """Return what makes an adapter; its module, and torch with it, is imported at the first call."""

    def make(model: object, **options: object) -> Adapter:
        require_torch()
        adapter_class = getattr(importlib.import_module(f"shiftproof.adapt.{module}"), kind)
        return cast("Adapter", adapter_class(model, **fixed, **options))

    return make


def _read_number_or_auto(text: str) -> float | str:
    return "auto" if text == "auto" else read_number(text)


def _read_switch_or_auto(text: str) -> bool | str:
    return "auto" if text == "auto" else read_switch(text)


def _read_cells(text: str) -> int | str:
    return "all" if text == "all" else int(text)


def _read_prior(text: str) -> float | str:
    return text if text in ("measured", "layerwise") else _read_number_or_auto(text)


_BATCHNORM: dict[str, Callable[[str], object]] = {
    "prior": _read_prior, "over": str, "momentum": float, "warm_up": int, "parts": str,
    "layers": str,
}  # fmt: skip
_SELF_LEARNING: dict[str, Callable[[str], object]] = {
    "lr": _read_number_or_auto, "momentum": float, "q": float, "threshold": float, "parameters": str,
    "layers": str, "prior": _read_prior, "preset": str, "teacher": str, "answers": str,
    "sees": str,
}  # fmt: skip
_LEARNING: dict[str, Callable[[str], object]] = {
    "lr": _read_number_or_auto, "momentum": float, "layers": str, "prior": _read_prior,
}  # fmt: skip

ADAPTERS: dict[str, AdapterEntry] = {
    "batchnorm": AdapterEntry(
        _maker("batchnorm", "BatchNorm"),
        "Mix each batch's statistics into the batch-norm layers (Schneider et al. 2020), as far as "
        "the batch is measurably unlike the source; prior=N trusts the source like N images.",
        _BATCHNORM,
    ),
    "rpl": AdapterEntry(
        _maker("selflearning", "SelfLearning", loss="rpl"),
        "Learn from robust pseudo-labels, one step per batch (Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "ent": AdapterEntry(
        _maker("selflearning", "SelfLearning", loss="ent"),
        "Minimise the entropy of the answers, one step per batch (TENT; Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "hard": AdapterEntry(
        _maker("selflearning", "SelfLearning", loss="hard"),
        "Learn from the classes that a teacher answers (Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "soft": AdapterEntry(
        _maker("selflearning", "SelfLearning", loss="soft"),
        "Learn from a teacher's whole distribution (Rusak et al. 2021).",
        _SELF_LEARNING,
    ),
    "actmad": AdapterEntry(
        _maker("actmad", "ActMAD"),
        "Match mean and variance of the features with those of clean images (Mirza et al. 2023): "
        "clean=FOLDER, else batch norm's running statistics.",
        {
            "clean": str,
            "cells": _read_cells,
            "lr": _read_number_or_auto,
            "momentum": float,
            "parameters": str,
            "layers": str,
            "few_classes": str,
        },
    ),
    "cotta": AdapterEntry(
        _maker("cotta", "CoTTA"),
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
        _maker("rotta", "RoTTA"),
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
        _maker("note", "NOTE"),
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
        _maker("memo", "MEMO"),
        "For each image alone, minimise the entropy of the mean answer over augmentations of it "
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
        _maker("lame", "LAME"),
        "Assign classes to a batch jointly where it holds few (Boudiaf et al. 2022); preset=paper: "
        "always. Changes no parameter.",
        {"neighbors": int, "links": str, "preset": str},
    ),
    "eata": AdapterEntry(
        _maker("eata", "EATA"),
        "Minimise the entropy of reliable, new answers (ETA; Niu et al. 2022). In Python, with images "
        "like the source's, EATA: it holds the parameters near the source.",
        {"margin": float, "similarity": _read_number_or_auto, **_LEARNING},
    ),
    "sar": AdapterEntry(
        _maker("sar", "SAR"),
        "Minimise the entropy of reliable answers where it is flat (Niu et al. 2023); for small "
        "batches and networks with layer or group norm.",
        {"margin": float, "rho": float, "recovery": float, **_LEARNING},
    ),
    "deyo": AdapterEntry(
        _maker("deyo", "DeYO"),
        "Minimise the entropy of answers that shuffled patches would change (Lee et al. 2024).",
        {"margin": float, "drop": float, "patches": int, **_LEARNING},
    ),
    "roid": AdapterEntry(
        _maker("roid", "ROID"),
        "Weighted likelihood ratios, drawn back to the source at each step (Marsden et al. 2024).",
        {
            "keep": float,
            "consistency": read_switch,
            "correction": _read_switch_or_auto,
            **_LEARNING,
        },
    ),
    "t3a": AdapterEntry(
        _maker("t3a", "T3A"),
        "Prototypes for the last layer, moved by each batch, answer where the network is unsure "
        "(Iwasawa & Matsuo 2021); preset=paper: everywhere. No gradients.",
        {"per_class": int, "preset": str},
    ),
    "tda": AdapterEntry(
        _maker("tda", "TDA"),
        "CLIP: compare images with surer ones of the stream, too; no gradients (Karmanov et al. 2024).",
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
        _maker("zero", "ZERO"),
        "CLIP: for each image alone, the sure views of it vote (Farina et al. 2024).",
        {"views": int, "share": read_number, "seed": int},
    ),
    "tpt": AdapterEntry(
        _maker("tpt", "TPT"),
        "CLIP: for each image alone, tune the prompt until its sure views agree (Shu et al. 2022).",
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
        _maker("clipartt", "CLIPArTT"),
        "CLIP: for each batch alone, learn from sentences of its likely classes (Hakim et al. 2024).",
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
        _maker("rdumb", "RDumb"),
        "Wraps an adapter: back to the source every so many batches (Press et al. 2023).",
        {"every": int},
        wraps=True,
    ),
    "guard": AdapterEntry(
        _maker("guard", "Guard"),
        "Wraps an adapter: checks it without labels and rolls it back when it fails.",
        {"window": int, "probation": int, "margin": float},
        wraps=True,
    ),
    "router": AdapterEntry(
        _maker("router", "Router"),
        "Runs the source, batchnorm and rpl side by side (or experts=A+B+C, as the last option), and "
        "lets the one answer that errs least, without labels or with a few.",
        {"experts": read_experts},
        gathers=True,
    ),
}
"""Adapters by the name that ``make_adapter`` and the command line take."""


def make_adapter(spec: str, classifier: ClassifierLike | torch.nn.Module) -> Adapter:
    """Make the adapter that a text names, as the command line spells it.

    Args:
        spec: ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``, with a name of ``ADAPTERS``:
            ``"batchnorm"``, ``"rpl:lr=0.001,layers=last-33%"``. Wrappers stand before it, with a
            plus: ``"guard+rpl"``, ``"guard+rdumb:every=100+ent"``. A router takes a list of adapters,
            with their options: ``"router:experts=batchnorm+rpl:lr=0.1,momentum=0.9+guard+ent"``.
        classifier: what it adapts.

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


def check_adapter(spec: str) -> None:
    """Refuse a text that names no adapter, before there is a model for one.

    Raises:
        UnknownNameError, InputError: as for :func:`make_adapter`; a folder of clean images without
            any.
    """
    for entry, options in _read_chain(spec):
        check_clean_option(options)
        if entry.gathers:
            *_, name = entry.options
            for one in cast("list[str]", options.get(name, [])):
                check_adapter(one)


def _read_chain(spec: str) -> list[_Choice]:
    """Read the wrappers of a text from the outermost, and what they wrap."""
    *wrappers, last = [_read(part, spec) for part in _join_lists(_split_parts(spec))]
    if last[0].wraps:
        raise InputError(
            f"{spec!r}: expected an adapter that is wrapped, as in '{spec.partition(':')[0]}+rpl'."
        )
    if not all(entry.wraps for entry, _ in wrappers):
        raise InputError(f"{spec!r}: only {', '.join(_wrappers())} can stand before a plus.")
    return [*wrappers, last]


def _join_lists(parts: list[str]) -> list[str]:
    """Put what stands behind a list's first adapter back to it."""
    for place, part in enumerate(parts):
        name, options = split_name(part)
        if name in ADAPTERS and ADAPTERS[name].gathers and "=" in options:
            return [*parts[:place], "+".join(parts[place:])]
    return parts


def _wrappers() -> list[str]:
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
    """Read the options of what gathers adapters: the list is the last, and its commas are its own."""
    *_, name = entry.options
    before, found, listed = options.partition(f"{name}=")
    read = read_options(before, entry.options, spec=spec, owner=owner)
    return {**read, name: entry.options[name](listed)} if found else read
