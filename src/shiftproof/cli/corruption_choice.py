"""Parsing options that name corruptions; imported only when a verb runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shiftproof.cli.printing import warn
from shiftproof.corruptions import (
    CORRUPTIONS,
    SUITES,
    CorruptionFunction,
    DepthFolder,
    frost_with,
    scale,
    suite,
    textures,
    with_depth,
)
from shiftproof.corruptions.chains import has_fixed_severities, parse_chain
from shiftproof.corruptions.depth import FUNCTIONS as DEPTH
from shiftproof.corruptions.depth_sources import DepthSource
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.corruptions.suites import merge
from shiftproof.corruptions.table import PUBLISHED
from shiftproof.errors import InputError, UnknownNameError


def read_choice(text: str, others: Sequence[str] = ()) -> dict[str, str | CorruptionFunction]:
    """Parse names, sets and chains; return each corruption by name, without duplicates.

    ``others`` are names beside those of the table: of the folders of a -C tree.
    """
    parts: list[Mapping[str, str | CorruptionFunction]] = []
    for word in filter(None, re.split(r"[,\s]+", text)):
        if word in others:
            parts.append({word: word})
        elif word in SUITES:
            parts.append(suite(word))
        elif word in CORRUPTIONS or word in DEPTH:
            parts.append({word: word})
        elif "+" in word:
            one = parse_chain(word, list(SUITES))
            parts.append({one.spec: one})
        else:
            raise UnknownNameError.of("corruption", word, [*CORRUPTIONS, *DEPTH, *others, *SUITES])
    if not parts:
        raise InputError("Expected at least one corruption, got none.")
    return merge(parts)


def open_depth(text: str | None) -> DepthSource | None:
    """Read ``"depth"`` as a folder of depth maps, ``"onnx:midas.onnx"`` as a model of depth.

    Raises:
        InputError: neither.
    """
    if text is None:
        return None
    kind, colon, rest = text.partition(":")
    if colon and kind == "onnx":
        from shiftproof.models.depth_models import OnnxDepth

        return OnnxDepth(rest)
    if not Path(text).is_dir():
        raise InputError(f"--depth: expected a folder or onnx:FILE, got {text!r}.")
    return DepthFolder(Path(text))


def _add_depth(
    named: dict[str, str | CorruptionFunction], depth: str | None, others: Sequence[str]
) -> None:
    """Add the source of depth maps to the corruptions that need one."""
    needing = [name for name, one in named.items() if one in DEPTH and name not in others]
    source = open_depth(depth)
    if needing and source is None:
        raise InputError(
            f"{needing[0]} needs depth maps: --depth FOLDER (NAME.png of 16 bits or NAME.npy for every "
            "image) or --depth onnx:FILE (a model of depth)."
        )
    if source is not None and not needing:
        raise InputError(f"--depth is for {', '.join(DEPTH)}; none of them is asked for.")
    for name in needing:
        assert source is not None
        named[name] = with_depth(name, source)


def resolve_corruptions(
    text: str,
    frost_dir: Path | None,
    others: Sequence[str] = (),
    constants: str = PUBLISHED,
    depth: str | None = None,
) -> dict[str, str | CorruptionFunction]:
    """Read a list of corruptions, with frost from the photographs in ``frost_dir`` where given.

    ``constants`` names the scale of their constants: "published", or "cifar-10-c" for small images;
    ``depth`` where the corruptions that need it find depth maps.
    """
    named = read_choice(text, others)
    _add_depth(named, depth, others)
    if constants != PUBLISHED:
        scaled = scale(constants)
        if frost_dir is not None:
            raise InputError(
                f"--frost-dir: the constants of {constants} have a frost of their own."
            )
        for name, one in named.items():
            if name not in scaled or not isinstance(one, str):
                raise InputError(f"{constants} has no constants for {name}; leave it out.")
        return {name: scaled[name] for name in named}
    if frost_dir is not None:
        for name, one in named.items():
            if name != "frost" and "frost with " in identify_corruption(one):
                raise InputError(f"--frost-dir: {name} takes the installed photographs alone.")
        if "frost" in named:
            named["frost"] = frost_with(textures.read_photographs(frost_dir))
    return named


def check_choice(named: Mapping[str, str | CorruptionFunction], severities: Sequence[int]) -> None:
    """Refuse a chain at several severities that all have its own; warn if frost textures will be generated.

    Raises:
        InputError: such a chain.
    """
    fixed = next((name for name, one in named.items() if has_fixed_severities(one)), None)
    if fixed is not None and len(severities) > 1:
        raise InputError(
            f"--severities: all corruptions of {fixed} have a severity of their own, so "
            f"{len(severities)} cells would be the same; give one, such as --severities 1."
        )
    warn_of_generated_frost(named)


def warn_of_generated_frost(named: Mapping[str, str | CorruptionFunction]) -> None:
    """Print a warning if frost textures will be generated."""
    if any(identify_corruption(one).endswith(textures.DRAWN) for one in named.values()):
        warn(
            "Frost textures are generated: the published photographs of ice are not installed. "
            "`pip install 'shiftproof[frost]'` brings them, or --frost-dir names their folder."
        )
