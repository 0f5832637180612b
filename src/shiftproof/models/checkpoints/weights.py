"""Finding one network's weights in the file of a training.

A training script may nest the weights, put prefixes before their names, and write averaged weights,
losses, counters and an optimizer's state beside them. None of that has to be known in advance: the
file is searched for the network's own names, and the text before them is the prefix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shiftproof.counts import pluralize
from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.io.border import show_name

if TYPE_CHECKING:
    import torch

_NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts nest the weights, the most common first."""

_AVERAGED = {"ema", "swa", "shadow", "teacher", "averaged", "polyak"}
"""Words for weights that are averaged over the training."""

_NO_WEIGHTS = re.compile(r"optim|sched|scaler|exp_avg|momentum_buffer|grad(ient)?s?$")
"""Keys of tensors that repeat the weights' names but are not weights."""

_DEEPEST = 6
"""Deepest nesting that is searched. Real files nest two or three deep; a malicious one may nest
without end.
"""

_COUNTERS = ("total_ops", "total_params")
"""Buffers that the profiler thop adds to every layer."""

_COMPUTED_BUFFERS = (
    "num_batches_tracked",
    "relative_position_index",
    "relative_coords_table",
    "attn_mask",
    "attention_bias_idxs",
    "position_ids",
)
"""Buffers that a network computes itself; some library versions save them."""


@dataclass(frozen=True)
class Content:
    """The tensors of a file.

    Attributes:
        tensors: all tensors by their dotted path.
        parts: the names of the top-level dicts.
        unnamed: the paths of lists of tensors, whose entries have no names.
    """

    tensors: Mapping[str, torch.Tensor]
    parts: frozenset[str] = frozenset()
    unnamed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """The weights of one network.

    Attributes:
        state: tensors by the network's own names.
        prefix: the prefix of most of them in the file.
        rest: the other tensors beside them, by their names in the file, without duplicates.
        notes: messages about choices between several sets of weights.
    """

    state: dict[str, torch.Tensor]
    prefix: str
    rest: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()


def flatten(content: Any) -> Content:
    """Return all tensors of nested dicts by their dotted path."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    unnamed: list[str] = []
    parts: set[str] = set()
    seen: set[int] = set()
    waiting: list[tuple[str, int, Any]] = [("", 0, content)]
    while waiting:
        place, depth, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            tensors[place] = value
        elif isinstance(value, Mapping) and depth < _DEEPEST and id(value) not in seen:
            # A dict that contains itself, or is referenced several times, is visited once.
            seen.add(id(value))
            if depth == 1:
                parts.add(place)
            waiting.extend(
                (f"{place}.{key}" if place else key, depth + 1, item)
                for key, item in reversed(list(value.items()))
                if isinstance(key, str) and not _NO_WEIGHTS.search(key)
            )
        elif isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
            unnamed.append(place)
    return Content(tensors, frozenset(parts), tuple(unnamed))


def find_weights(
    content: Content,
    expected: Collection[str],
    *,
    parameters: Collection[str],
    wanted: str | None = None,
) -> Match | None:
    """Return the weights that have a network's names; None if the file has none of them.

    Averaged weights take precedence over raw ones, as in timm's loader.

    Args:
        content: the tensors of the file.
        expected: the network's own names.
        parameters: the trainable ones among them.
        wanted: ``"ema"``, ``"raw"``, or a path in the file; None chooses automatically.

    Raises:
        UnknownNameError: the file has no such weights; the error lists those it has.
        ModelError: several sets of weights match equally well.
    """
    counts = Counter(prefix for prefix, _ in _split_prefixes(content.tensors, expected))
    if not counts:
        return None
    most = max(counts.values())
    # Averaged weights may lack what is not trained; a set that lacks more is another network or
    # part of one.
    enough = min(most, len([name for name in parameters if name in expected]) or most)
    sets = [prefix for prefix, count in counts.items() if count * 10 >= enough * 9]
    chosen = _choose(content, sets, counts, wanted)
    averaged = _is_averaged(chosen)
    state = {
        name: content.tensors[chosen + name]
        for name in expected
        if chosen + name in content.tensors
    }
    notes: list[str] = []
    raw = [prefix for prefix in sets if not _is_averaged(prefix)]
    if averaged:
        notes.append(f"averaged weights ({_show(chosen)})")
        if raw:
            notes[-1] += f", not the raw ones ({_show(raw[0])})"
        kept = [name for name in expected if name not in state and name not in parameters]
        filled = {
            n: content.tensors[raw[0] + n] for n in kept if raw and raw[0] + n in content.tensors
        }
        if filled:
            state.update(filled)
            notes.append(f"{pluralize(len(filled), 'running statistic')} of the raw weights")
    elif any(_is_averaged(prefix) for prefix in sets):
        notes.append(f"raw weights ({_show(chosen)}), not the averaged ones")
    elif any(_split_words(place) & _AVERAGED for place in content.unnamed):
        notes.append("raw weights: the averaged ones beside them have no names")
    if any(name.rpartition(".")[2] == "n_averaged" for name in content.tensors):
        notes.append("weights averaged by torch.optim.swa_utils")
    container = _find_container(content, chosen, named=wanted not in (None, "ema", "raw"))
    copies = {
        place for prefix, place in _split_prefixes(content.tensors, expected) if prefix in sets
    }
    rest = {
        place: tensor
        for place, tensor in content.tensors.items()
        if place.startswith(container) and place not in copies
    }
    return Match(state, chosen, rest, tuple(notes))


def strip_prefixes(
    state: dict[str, torch.Tensor], expected: Collection[str]
) -> dict[str, torch.Tensor]:
    """Return a state_dict with prefixes removed; a name that the network has is unchanged."""
    counts = Counter(prefix for prefix, _ in _split_prefixes(state, expected))
    if not counts:
        return state
    # On ties the shorter prefix: "attacker.model." is a second name of "model.".
    prefix = min(counts, key=lambda one: (-counts[one], len(one)))
    return {name.removeprefix(prefix): value for name, value in state.items()}


_WRAPPER = "module"
"""Attribute under which DataParallel and similar wrappers hold the network."""


def strip_wrappers(
    tensors: Mapping[str, torch.Tensor], expected: Collection[str]
) -> dict[str, torch.Tensor]:
    """Return tensors by names without the wrappers around parts of the network.

    Only a part of a large network may be trained in parallel, as in PyTorch's own example with VGG:
    ``features.module.0.weight``. Prefixes are kept.
    """
    if any(_WRAPPER in name.split(".") for name in expected):
        return dict(tensors)
    wrapped = [name for name in tensors if f".{_WRAPPER}." in name]
    renamed = {name: _unwrap(name, expected) for name in wrapped}
    # If both names exist, they are two tensors.
    taken = Counter(renamed.get(name, name) for name in tensors)
    new = {name: one for name, one in renamed.items() if taken[one] == 1}
    return {new.get(name, name): value for name, value in tensors.items()}


def _unwrap(place: str, expected: Collection[str]) -> str:
    # The longest name of the network: layer1.module.0.bn1.weight ends with its bn1.weight, too.
    parts = place.split(".")
    for start, part in enumerate(parts):
        name = ".".join(inner for inner in parts[start:] if inner != _WRAPPER)
        if part != _WRAPPER and name in expected:
            return ".".join([*parts[:start], name])
    return place


def is_counter(name: str) -> bool:
    """Return whether a name is a counter that libraries save and no network needs."""
    return name.rpartition(".")[2] in (*_COUNTERS, *_COMPUTED_BUFFERS)


def is_computed_buffer(name: str) -> bool:
    """Return whether a network computes the buffer of that name itself."""
    return name.rpartition(".")[2] in _COMPUTED_BUFFERS


_UNRELATED = re.compile(
    r"loss|criterion|objective|metric|class_weight|pos_weight|(^|_)(train|val|valid|test)_"
)
_BUFFERS_OF_A_LOSS = re.compile(
    r"(^|[._])(acc|accuracy|auroc|f1|confmat|confusion|precision|recall)"
)


def is_unrelated(name: str, tensor: torch.Tensor) -> bool:
    """Return whether a tensor beside the weights belongs to a loss, a metric or a counter."""
    return (
        tensor.ndim == 0
        or not tensor.is_floating_point()
        or is_counter(name)
        or bool(_UNRELATED.search(name) or _BUFFERS_OF_A_LOSS.search(name))
    )


def _split_prefixes(places: Iterable[str], expected: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (prefix, path) for each path that ends with a name of ``expected``."""
    for place in places:
        start = 0
        while True:
            if place[start:] in expected:
                yield place[:start], place
                break
            dot = place.find(".", start)
            if dot < 0:
                break
            start = dot + 1


def _choose(
    content: Content, sets: list[str], counts: Mapping[str, int], wanted: str | None
) -> str:
    averaged = [prefix for prefix in sets if _is_averaged(prefix)]
    raw = [prefix for prefix in sets if not _is_averaged(prefix)]
    if wanted in ("ema", "raw"):
        found = averaged if wanted == "ema" else raw
        if not found:
            raise ModelError(
                f"weights={wanted}: the file has none such, only {_list(sets)}. Leave it out, or "
                "name one of these."
            )
    elif wanted is not None:
        found = [prefix for prefix in sets if _show(prefix) == wanted]
        found = found or [prefix for prefix in sets if f".{wanted}." in f".{prefix}"]
        if not found:
            raise UnknownNameError.of(
                "weights", wanted, ["ema", "raw", *(_show(prefix) for prefix in sets)]
            )
    else:
        found = averaged or raw
    best = max(counts[prefix] for prefix in found)
    # The shortest prefix first, and among these the most common one.
    tied = sorted(
        (one for one in found if counts[one] == best), key=lambda one: (_rank(one), len(one))
    )
    others = [one for one in tied[1:] if not _are_equal(content.tensors, tied[0], one)]
    if any(_rank(other) == _rank(tied[0]) for other in others):
        raise ModelError(
            f"The file has several sets of weights: {_list([tied[0], *others])}. Say which: "
            f"weights={_show(tied[0])}."
        )
    return tied[0]


def _are_equal(tensors: Mapping[str, torch.Tensor], one: str, other: str) -> bool:
    """Return whether two sets of weights are equal in the tensors that both have."""
    import torch

    pairs = (
        (tensor, tensors.get(other + place.removeprefix(one)))
        for place, tensor in tensors.items()
        if place.startswith(one)
    )
    return all(
        second is None
        or (
            first.shape == second.shape
            and first.layout == second.layout == torch.strided
            and torch.equal(first, second)
        )
        for first, second in pairs
    )


def _rank(prefix: str) -> int:
    first = prefix.partition(".")[0]
    return _NESTED_UNDER.index(first) if first in _NESTED_UNDER else len(_NESTED_UNDER)


def _split_words(place: str) -> set[str]:
    return set(re.split(r"[._]", place.lower()))


def _is_averaged(prefix: str) -> bool:
    return bool(_split_words(prefix) & _AVERAGED)


def _find_container(content: Content, prefix: str, *, named: bool) -> str:
    """Return the prefix of the part of a file that belongs to one network.

    If all parts belong to one network (``backbone`` and ``head``), that is the whole file.
    """
    first, dot, _ = prefix.partition(".")
    apart = named or first in _NESTED_UNDER or _is_averaged(first)
    return first + dot if apart and first in content.parts else ""


def _show(prefix: str) -> str:
    return show_name(prefix.rstrip(".")) or "top"


def _list(prefixes: Iterable[str]) -> str:
    return ", ".join(_show(prefix) for prefix in list(prefixes)[:6])
