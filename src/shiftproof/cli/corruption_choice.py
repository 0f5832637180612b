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

    ``others`` are names in addition to the table's: of the folders of a -C tree.
    """
    choices: list[Mapping[str, str | CorruptionFunction]] = []
    for word in filter(None, re.split(r"[,\s]+", text)):
        if word in others:
            choices.append({word: word})
        elif word in SUITES:
            choices.append(suite(word))
        elif word in CORRUPTIONS or word in DEPTH:
            choices.append({word: word})
        elif "+" in word:
            chain = parse_chain(word, list(SUITES))
            choices.append({chain.spec: chain})
        else:
            raise UnknownNameError.of("corruption", word, [*CORRUPTIONS, *DEPTH, *others, *SUITES])
    if not choices:
        raise InputError("Expected at least one corruption, got none.")
    return merge(choices)


def open_depth(text: str | None) -> DepthSource | None:
    """Open a folder of depth maps, or a model of depth such as ``"onnx:midas.onnx?layout=nhwc"``.

    Raises:
        InputError: it is neither, or the model's input does not say all that it takes.
        UnknownNameError: an unknown option of the model.
    """
    if text is None:
        return None
    kind, colon, rest = text.partition(":")
    if colon and kind == "onnx":
        from shiftproof.models.depth_models import OnnxDepth
        from shiftproof.models.onnx_input import INPUT_OPTIONS
        from shiftproof.specs import read_options

        file, mark, query = rest.rpartition("?")
        if not mark or "=" not in query:
            file, query = rest, ""
        readers = dict.fromkeys(INPUT_OPTIONS, str)
        return OnnxDepth(file, **read_options(query, readers, spec=text, separator="&"))
    if not Path(text).is_dir():
        raise InputError(f"--depth: expected a folder or onnx:FILE, got {text!r}.")
    return DepthFolder(Path(text))


def _add_depth(
    corruptions: dict[str, str | CorruptionFunction], depth: str | None, others: Sequence[str]
) -> None:
    """Add the source of depth maps to the corruptions that need one."""
    needing_depth = [
        name
        for name, corruption in corruptions.items()
        if corruption in DEPTH and name not in others
    ]
    source = open_depth(depth)
    if needing_depth and source is None:
        raise InputError(
            f"{needing_depth[0]} needs depth maps: --depth FOLDER (NAME.png of 16 bits or NAME.npy for every "
            "image) or --depth onnx:FILE (a model of depth)."
        )
    if source is not None and not needing_depth:
        raise InputError(f"--depth is for {', '.join(DEPTH)}; --corruptions has none of them.")
    for name in needing_depth:
        assert source is not None
        corruptions[name] = with_depth(name, source)


def resolve_corruptions(
    text: str,
    frost_dir: Path | None,
    others: Sequence[str] = (),
    constants: str = PUBLISHED,
    depth: str | None = None,
) -> dict[str, str | CorruptionFunction]:
    """Parse a list of corruptions, with frost from the photographs in ``frost_dir`` if given.

    ``constants`` is the scale of their constants: "published", or "cifar-10-c" for small images;
    ``depth`` the source of depth maps for corruptions that need them.
    """
    corruptions = read_choice(text, others)
    _add_depth(corruptions, depth, others)
    if constants != PUBLISHED:
        scaled = scale(constants)
        if frost_dir is not None:
            raise InputError(
                f"--frost-dir: {constants} has its own frost; leave out one of the two options."
            )
        for name, corruption in corruptions.items():
            if name not in scaled or not isinstance(corruption, str):
                raise InputError(f"{constants} has no constants for {name}; leave it out.")
        return {name: scaled[name] for name in corruptions}
    if frost_dir is not None:
        for name, corruption in corruptions.items():
            if name != "frost" and "frost with " in identify_corruption(corruption):
                raise InputError(f"--frost-dir: {name} uses only the installed photographs.")
        if "frost" in corruptions:
            corruptions["frost"] = frost_with(textures.read_photographs(frost_dir))
    return corruptions


def check_choice(
    corruptions: Mapping[str, str | CorruptionFunction], severities: Sequence[int]
) -> None:
    """Refuse a chain at several severities that all have its own; warn if frost textures will be generated.

    Raises:
        InputError: such a chain.
    """
    fixed = next(
        (name for name, corruption in corruptions.items() if has_fixed_severities(corruption)), None
    )
    if fixed is not None and len(severities) > 1:
        raise InputError(
            f"--severities: all corruptions of {fixed} have fixed severities, so "
            f"{len(severities)} cells would be the same; give one, such as --severities 1."
        )
    warn_of_generated_frost(corruptions)


def warn_of_generated_frost(corruptions: Mapping[str, str | CorruptionFunction]) -> None:
    """Print a warning if frost textures will be generated."""
    if any(
        identify_corruption(corruption).endswith(textures.DRAWN)
        for corruption in corruptions.values()
    ):
        warn(
            "Frost textures are generated: the published photographs of ice are not installed. "
            "`pip install 'shiftproof[frost]'` installs them, or give their folder by --frost-dir."
        )
