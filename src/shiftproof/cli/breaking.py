"""``shiftproof breaking``: the severity at which each answer of a classifier breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from shiftproof.cli.copying import show_omissions
from shiftproof.cli.grid_options import (
    ClassOptions,
    CorruptionOptions,
    WhichImages,
    name_specs,
    split_images,
)
from shiftproof.cli.models import check_classifiers, check_out, load_classifiers
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    DATA_PANEL,
    AsJson,
    BatchSize,
    Device,
    Encode,
    Out,
    Root,
    Seed,
    Split,
    Workers,
    data_option,
    model_option,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.printing import announce
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.corruptions import CorruptionFunction

Models: TypeAlias = Annotated[
    list[str],
    model_option("As for `shiftproof bench`; several, each with a --model, see the same images."),
]
DataPath: TypeAlias = Annotated[
    str,
    data_option(
        "Clean images, as for `shiftproof bench`; without labels the answer on the clean "
        "image counts as right."
    ),
]
Unlabeled: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--unlabeled",
        "--unlabelled",
        help="Ignore folder names; the answer on the clean image counts as right.",
        rich_help_panel=DATA_PANEL,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "breaking",
        epilog=(
            "Examples:  shiftproof breaking --model timm:resnet50 --data photos --out run  ·  "
            "shiftproof breaking --model demo --data demo --out run --corruptions fog,noise"
        ),
    )(expand_groups(breaking))


def breaking(
    model: Models,
    data: DataPath,
    out: Out,
    images: WhichImages = None,
    *,
    shifts: CorruptionOptions,
    encode: Encode = "none",
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
    class_options: ClassOptions,
    unlabeled: Unlabeled = False,
    split: Split = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Find for each image and corruption the severity at which the answer first breaks."""
    specs = name_specs(model)
    check_presence(data, "images")
    announce(f"Searching where {', '.join(model)} breaks on {data}, {shifts.describe()}", out)
    from shiftproof.bench import find_breaking
    from shiftproof.bench.other_runs.breaking import make_copies_error
    from shiftproof.data import open_data, read_class_map
    from shiftproof.data.images.opening import check_data, find_copies

    # Before a model is loaded, which may take a download.
    count, folder = split_images(images)
    corruptions = _choose(shifts)
    class_map = None if class_options.class_map is None else read_class_map(class_options.class_map)
    labeled = False if unlabeled else None
    check_classifiers(specs, class_options)
    check_data(data, class_map=class_map, labeled=labeled, split=split, images=folder, root=root)
    if find_copies(data) is not None:
        raise make_copies_error()
    check_out(out)
    classifiers = load_classifiers(specs, class_options, device=device, run_folder=out)
    dataset = open_data(
        data,
        classes=next(iter(classifiers.values())).classes,
        class_map=class_map,
        labeled=labeled,
        split=split,
        images=folder,
        root=root,
    )
    show_omissions(dataset.omissions)
    run = find_breaking(
        classifiers,
        dataset,
        corruptions=corruptions,
        images=count,
        out=out,
        batch_size=batch_size,
        seed=seed,
        encode=encode,
        workers=workers,
    )
    show_outcome(run, as_json=as_json)


def _choose(shifts: CorruptionOptions) -> dict[str, str | CorruptionFunction]:
    """Return the corruptions by name.

    Raises:
        InputError: one has a single severity.
    """
    from shiftproof.cli.corruption_choice import resolve_corruptions, warn_of_generated_frost
    from shiftproof.corruptions.chains import has_fixed_severities

    corruptions = resolve_corruptions(
        shifts.corruptions, shifts.frost_dir, (), shifts.constants, None
    )
    fixed = next(
        (name for name, corruption in corruptions.items() if has_fixed_severities(corruption)), None
    )
    if fixed is not None:
        raise InputError(
            f"--corruptions: all corruptions of {fixed} have fixed severities, so there is no severity "
            "to search for."
        )
    warn_of_generated_frost(corruptions)
    return corruptions
