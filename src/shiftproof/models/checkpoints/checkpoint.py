"""Checkpoints on disk: weights only, never code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.classes import Classes, imagenet, name_classes
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io.border import show_name
from shiftproof.models.architecture import Architecture, Shape, Skeleton, build_skeleton
from shiftproof.models.checkpoints.class_names import find_class_names
from shiftproof.models.checkpoints.file import check_dense, read_content
from shiftproof.models.checkpoints.weights import (
    Content,
    Match,
    find_weights,
    flatten,
    is_computed_buffer,
    is_counter,
    is_unrelated,
    strip_prefixes,
    strip_wrappers,
)
from shiftproof.models.classifiers import timm, torchvision
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.preprocess import Preprocess
from shiftproof.models.structure import require_torch
from shiftproof.models.targets import check_file

if TYPE_CHECKING:
    import torch

__all__ = ["load_checkpoint", "read_state", "strip_prefixes"]

Tensors = dict[str, "torch.Tensor"]

_NORMALIZATIONS = (
    ("mean", "std"),
    ("new_mean", "new_std"),
    ("_mean", "_std"),
    ("mu", "sigma"),
    ("image_mean", "image_std"),
    ("pixel_mean", "pixel_std"),
)
"""Names of mean and deviation in a normalization layer; the second pair is that of the library
robustness.
"""


def load_checkpoint(target: str, options: LoadOptions) -> Loaded:
    """Load the weights in a file into an architecture of timm or torchvision.

    The file is searched for the architecture's names, in any nesting and with any prefix. Averaged
    weights (EMA, SWA) take precedence over raw ones, as in timm's loader; losses, metrics and
    counters are ignored. The number of classes follows from the head. 1,000 classes are assumed to
    be ImageNet's; for others the names in the file are used (``classes``, ``class_to_idx``, ...).
    The preprocessing is the architecture's, except for a mean and deviation in the file, and for a
    first layer of one channel, which gets gray images.

    ``target`` is the path; ``.safetensors`` files are read by safetensors, all others by
    ``torch.load``. The option ``arch`` is required (``timm:NAME`` or ``torchvision:NAME``);
    ``weights`` chooses among several sets: ``"ema"``, ``"raw"``, or their path in the file.

    Raises:
        InputError: no architecture is given.
        UnknownNameError: no such architecture, or no such weights in the file.
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (nothing of it is run), does not fit, or has no head.
    """
    arch = _require_arch(target, options.arch)
    require_torch()
    library, _, name = arch.partition(":")
    name, _, tag = name.partition("@")
    path = Path(target)
    content = read_content(path)
    tensors = find_tensors(content, path)
    if library == "timm":
        architecture = timm.make_timm_architecture(f"{name}@{tag}" if tag else name, options.size)
        fitted = fit(tensors, architecture, path, options)
        preprocess, source = timm.read_preprocess(fitted.module), f"timm's for {name}"
    elif library == "torchvision":
        weights = torchvision.find_weights(name, tag)
        architecture = torchvision.make_torchvision_architecture(name, weights, options.size)
        fitted = fit(tensors, architecture, path, options)
        preprocess, source = torchvision.read_preprocess(weights), f"torchvision's for {weights}"
    else:
        raise _make_library_error(library)
    preprocess, notes = _adjust(preprocess, fitted)
    classes, classes_from = _name_classes(content, fitted.classes)
    return Loaded(
        fitted.module,
        preprocess,
        classes,
        preprocess_from=source,
        classes_from=classes_from,
        assumed=(*fitted.notes, *notes),
    )


def check_checkpoint(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a checkpoint with no or an unknown architecture, or without a readable file.

    Raises:
        InputError, UnknownNameError, BrokenFileError, MissingExtraError: as for
            :func:`load_checkpoint`.
    """
    library, _, name = _require_arch(target, options["arch"]).partition(":")
    if library == "timm":
        timm.check_timm(name, {"pretrained": False})
    elif library == "torchvision":
        torchvision.find_weights(*name.partition("@")[::2])
    else:
        raise _make_library_error(library)
    check_file(target, options)


def _require_arch(target: str, arch: str | None) -> str:
    """Return the architecture of a checkpoint; raise an InputError if none is given."""
    if arch is None:
        raise InputError(
            f"A checkpoint needs its architecture: file:{target}?arch=timm:resnet18 "
            "(or torchvision:NAME). A network class of your own is built and filled by a function "
            "of yours: python:MODULE:FUNCTION."
        )
    return arch


def _make_library_error(library: str) -> UnknownNameError:
    return UnknownNameError.of("library of architectures", library, ["timm", "torchvision"])


def _name_classes(content: Any, count: int | None) -> tuple[Classes | None, str]:
    """Return the classes for a number of outputs, and the source of their names."""
    if count == 1000:
        return imagenet(), "1,000 outputs are taken to be ImageNet's"
    names = None if count is None else find_class_names(content, count)
    return (None, "") if names is None else (name_classes(names), "names in the checkpoint")


def read_tensors(path: Path) -> Content:
    """Read all tensors in a file, by their dotted path in it.

    Raises:
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (nothing of it is run), or no weights.
    """
    return find_tensors(read_content(path), path)


def find_tensors(content: Any, path: Path) -> Content:
    """Return all tensors in the content of a file, by their dotted path in it.

    Raises:
        ModelError: there are no weights.
    """
    found = flatten(content)
    if not found.tensors or "" in found.tensors:
        keys = content if isinstance(content, dict) else ()
        named = ", ".join(show_name(key) for key in keys if isinstance(key, str))
        raise ModelError(
            f"{path} holds no state_dict (a dict from names to tensors), but a "
            f"{type(content).__name__}{f' with {named[:200]}' if named else ''}. "
            "Save the weights alone: torch.save(model.state_dict(), PATH)."
        )
    return found


def read_state(path: Path) -> Tensors:
    """Read the weights in a file by name, in any nesting.

    Raises:
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (nothing of it is run), no weights, or others than
            dense real numbers.
    """
    tensors = dict(read_tensors(path).tensors)
    for name, tensor in tensors.items():
        check_dense(tensor, f"{path}: {show_name(name)}")
    return tensors


# ---------------------------------------------------------------- into the architecture


@dataclass(frozen=True)
class Fitted:
    """A network with weights from a file.

    Attributes:
        module: the network.
        classes: number of outputs of its head; None if only its features can be used.
        channels: input channels, 3 or 1.
        normalization: mean and deviation in the file, per channel in units of 0..1, or None.
        notes: the assumptions made, as sentences.
    """

    module: torch.nn.Module
    classes: int | None
    channels: int
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    notes: tuple[str, ...]


def fit(content: Content, architecture: Architecture, path: Path, options: LoadOptions) -> Fitted:
    """Build an architecture with the classes and channels of the weights, and load the weights.

    Nothing is built before all shapes are checked, so the size of the file bounds the memory.

    Raises:
        ModelError: names are missing or unexpected, shapes differ, or there is no head although
            logits are needed.
    """
    skeleton = build_skeleton(architecture)
    renamed = {architecture.rename(name): value for name, value in content.tensors.items()}
    content = dataclasses.replace(content, tensors=strip_wrappers(renamed, skeleton.shapes))
    match = find_weights(
        content, skeleton.shapes, parameters=skeleton.parameters, wanted=options.weights
    )
    is_other = match is None
    match = match or Match({}, "", dict(content.tensors))
    draft = _draft_weights(_add_head(match, skeleton), skeleton, architecture, path, options)
    if draft.faults:
        draft = _convert(match, skeleton, architecture, path, options) or draft
    if is_other and draft.faults:
        raise _name_other_network(content, architecture, path)
    if not options.features and draft.headless:
        raise ModelError(
            f"{path} has no head for {architecture.name}: its outputs would be features and no "
            f"classes. Name a checkpoint with {', '.join(skeleton.head) or 'a last layer'}; as an "
            "encoder it works as it is: `shiftproof embed` and `shiftproof probe`, or load_encoder."
        )
    if draft.faults:
        sized = any("pos" in fault and " and not " in fault for fault in draft.faults)
        advice = (
            ", and say the size of the images that it was trained on: size=384" if sized else ""
        )
        raise ModelError(
            f"The weights do not fit {architecture.name}: {'; '.join(draft.faults)}. Check the "
            f"architecture{advice}."
        )
    module = architecture.build(draft.classes, draft.channels)
    torchvision.drop_auxiliary(module, draft.state)
    own = module.state_dict()
    own.update({name: value for name, value in draft.state.items() if name in own})
    module.load_state_dict(own)
    normalization, notes = _find_normalization(match, draft.channels)
    return Fitted(module, draft.classes, draft.channels, normalization, (*draft.notes, *notes))


def _name_other_network(content: Content, architecture: Architecture, path: Path) -> ModelError:
    names = [show_name(name) for name in content.tensors]
    return ModelError(
        f"{path} has no weights of {architecture.name}; it has {', '.join(names[:3])}"
        f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}. Check the architecture. A network "
        "that neither timm nor torchvision has is made by a function of yours: "
        "python:MODULE:FUNCTION, or in Python Classifier(module, preprocess, classes)."
    )


@dataclass(frozen=True)
class _Draft:
    """The comparison of weights with an architecture that is not yet built."""

    state: Tensors
    classes: int | None
    channels: int
    headless: bool
    faults: list[str]
    notes: tuple[str, ...]


def _draft_weights(
    match: Match, skeleton: Skeleton, architecture: Architecture, path: Path, options: LoadOptions
) -> _Draft:
    state = match.state
    for name, tensor in state.items():
        check_dense(tensor, f"{path}: {show_name(match.prefix + name)}")
    main = [
        name
        for name in skeleton.head
        if name in state and state[name].ndim and not name.startswith(architecture.optional)
    ]
    classes = state[main[0]].shape[0] if main else None
    shapes = skeleton.compute_shapes(classes)
    channels = _count_channels(state, shapes)
    layers = {name.rpartition(".")[0] for name in state}
    computed = {*skeleton.constants, *filter(is_computed_buffer, shapes)}
    missing = [
        name
        for name in shapes
        if name not in state
        and not (name in computed and name.rpartition(".")[0] in layers)
        and not name.startswith(architecture.optional)
        and not (options.features and name in skeleton.head)
    ]
    others = [
        f"{name} is {tuple(state[name].shape)} and not {shape}"
        for name, shape in shapes.items()
        if name in state and not _fits(tuple(state[name].shape), shape, channels)
    ]
    others += [
        f"{name} is {str(state[name].dtype).removeprefix('torch.')} and not floating"
        for name in skeleton.parameters
        if name in state and not state[name].is_floating_point()
    ]
    extra, aside = _sort_others(match, skeleton, architecture, options)
    faults = [
        f"{len(names)} {what} ({', '.join(map(show_name, names[:3]))}{', …' if len(names) > 3 else ''})"
        for what, names in (
            (f"of the {len(shapes)} expected are missing", missing),
            ("are not expected", extra),
            ("have another shape", others),
        )
        if names
    ]
    notes = list(match.notes)
    if aside:
        shown = f"{', '.join(map(show_name, aside[:2]))}{', …' if len(aside) > 2 else ''}"
        notes.append(f"{pluralize(len(aside), 'other')} left aside ({shown})")
    needed = [name for name in skeleton.head if not name.startswith(architecture.optional)]
    headless = not needed or not any(name in state for name in needed) or not classes
    if headless and options.features:
        classes = None
    return _Draft(state, classes, channels, headless, faults, tuple(notes))


def _convert(
    match: Match, skeleton: Skeleton, architecture: Architecture, path: Path, options: LoadOptions
) -> _Draft | None:
    """Convert weights in the format of a model's authors; None if they do not fit then either."""
    if architecture.convert is None:
        return None
    given = {name.removeprefix(match.prefix): value for name, value in match.rest.items()}
    given |= match.state
    for name, tensor in given.items():
        check_dense(tensor, f"{path}: {show_name(match.prefix + name)}")
    module = architecture.build(None, 3)
    try:
        state = architecture.convert(given, module)
        tensors = flatten(state).tensors
    except Exception:  # the library's converter fails on unknown names
        return None
    if any(name in given and given[name].numel() != tensors[name].numel() for name in tensors):
        return None  # resampled for another image size, which changes the values
    state = {name: tensors[name] for name in skeleton.shapes if name in tensors}
    rest = {name: value for name, value in tensors.items() if name not in state}
    note = "names read by timm's own conversion"
    found = _add_head(Match(state, "", rest, (*match.notes, note)), skeleton)
    draft = _draft_weights(found, skeleton, architecture, path, options)
    return draft if not draft.faults else None


def _count_channels(state: Mapping[str, torch.Tensor], shapes: Mapping[str, Shape]) -> int:
    """Return the input channels of the first convolution in a file: 3, or 1 for gray."""
    for name, shape in shapes.items():
        if name in state and len(shape) == 4 and shape[1] == 3:
            gray = (shape[0], 1, *shape[2:])
            return 1 if tuple(state[name].shape) == gray else 3
    return 3


def _fits(found: Shape, expected: Shape, channels: int) -> bool:
    if found == expected:
        return True
    gray = (expected[0], channels, *expected[2:]) if len(expected) == 4 else ()
    return channels == 1 and expected[1:2] == (3,) and found == gray


def _add_head(match: Match, skeleton: Skeleton) -> Match:
    """Find a head with another prefix or name than the rest of the network.

    It may be beside a backbone (``backbone.…`` and ``head.fc.weight``), or after a dropout
    (``fc.1.weight``). It is the tensor with its name, else the only layer with its number of
    inputs.
    """
    missing = [name for name in skeleton.head if name not in match.state]
    if not missing or not match.state:
        return match
    state, rest = dict(match.state), dict(match.rest)
    taken = []
    for name in missing:
        found = [key for key in rest if key.endswith(f".{name}") or key == name]
        if len(found) == 1:
            state[name] = rest.pop(found[0])
            taken.append(found[0])
    weight = next((n for n in missing if n.endswith(".weight") and n not in state), None)
    if weight is not None:
        inputs = skeleton.shapes[weight][1:]
        found = [
            key
            for key, tensor in rest.items()
            if key.endswith("weight") and tuple(tensor.shape[1:]) == inputs and tensor.ndim > 1
        ]
        bias = weight.removesuffix("weight") + "bias"
        if len(found) == 1:
            key = found[0]
            beside = key.removesuffix("weight") + "bias"
            if (bias in skeleton.shapes) == (beside in rest):
                state[weight] = rest.pop(key)
                taken.append(key)
                if beside in rest:
                    state[bias] = rest.pop(beside)
    if not taken:
        return match
    head = f"head from {show_name(taken[0]).removesuffix('.weight')}"
    return Match(state, match.prefix, rest, (*match.notes, head))


def _sort_others(
    match: Match, skeleton: Skeleton, architecture: Architecture, options: LoadOptions
) -> tuple[list[str], list[str]]:
    """Return the unexpected other tensors in the file, and those to ignore."""
    normalizers = {name for pair in _find_normalization_names(match) for name in pair}
    roots = {name.partition(".")[0] for name in skeleton.shapes if name not in skeleton.head}
    extra, aside = [], []
    for key, tensor in match.rest.items():
        name = key.removeprefix(match.prefix)
        within = key.startswith(match.prefix)
        outside = not within or name.partition(".")[0] not in roots
        if within and name in skeleton.constants:
            # Only some versions of a library save it; the value is the same if the shape fits.
            if tuple(tensor.shape) != skeleton.constants[name]:
                extra.append(name)
        elif key in normalizers or is_counter(name) or name.startswith(architecture.optional):
            continue
        elif tensor.ndim == 0 and outside:
            continue  # a counter, such as n_averaged
        elif outside and (options.features or is_unrelated(name, tensor)):
            aside.append(key)
        else:
            extra.append(name)
    return extra, aside


# ---------------------------------------------------------------- preprocessing in the file


def _find_normalization_names(match: Match) -> list[tuple[str, str]]:
    """Return the names of the images' means and deviations beside the weights."""
    found = []
    for key in match.rest:
        parent, dot, leaf = key.rpartition(".")
        for mean, std in _NORMALIZATIONS:
            if leaf == mean and f"{parent}{dot}{std}" in match.rest:
                found.append((key, f"{parent}{dot}{std}"))
    return [pair for pair in found if all(match.rest[name].numel() in (1, 3) for name in pair)]


def _find_normalization(
    match: Match, channels: int
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]] | None, tuple[str, ...]]:
    """Return the mean and deviation in a file, in units of 0..1, and a note about them."""
    found = {}
    for names in _find_normalization_names(match):
        for name in names:
            check_dense(match.rest[name], show_name(name))
        mean, std = (
            tuple(float(value) for value in match.rest[name].reshape(-1).tolist()) for name in names
        )
        mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
        # No image in 0..1 has a mean above 1: these numbers are for images in 0..255.
        if max(mean) > 1 or (not any(mean) and min(std) > 1):
            mean, std = (tuple(value / 255 for value in values) for values in (mean, std))
        found[mean, std] = names
    if not found:
        return None, ()
    if len(found) > 1:
        shown = ", ".join(show_name(names[0]) for names in found.values())
        raise ModelError(
            f"The file has several normalizations ({shown}). Say which: mean= and std=."
        )
    ((mean, std), names), *_ = found.items()
    return (mean, std), (f"mean and deviation from the file ({show_name(names[0])})",)


def _adjust(preprocess: Preprocess, fitted: Fitted) -> tuple[Preprocess, tuple[str, ...]]:
    """Return the preprocessing with the channels and normalization of the file."""
    mean, std = fitted.normalization or (preprocess.mean, preprocess.std)
    if fitted.channels == 3:
        return dataclasses.replace(preprocess, mean=mean, std=std, channels=3), ()
    gray = dataclasses.replace(
        preprocess,
        mean=(sum(mean) / len(mean),),
        std=(sum(std) / len(std),),
        channels=1,
    )
    return gray, ("one input channel: images are turned to gray",)
