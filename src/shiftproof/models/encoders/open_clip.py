"""Image towers of OpenCLIP's models."""

from __future__ import annotations

from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.image_text.open_clip import (
    create_open_clip,
    make_image_tower,
    read_preprocess,
)


def load_open_clip(target: str, options: LoadOptions) -> Loaded:
    """Load the image tower of ``NAME/WEIGHTS``, such as ``ViT-B-32/laion2b_s34b_b79k``.

    With ``pretrained=False``, which keeps random weights, the weights may be omitted.

    Raises:
        UnknownNameError: no such model or tag.
        ModelError: no weights are named, they cannot be loaded, or the preprocessing is not
            supported.
        MissingExtraError: open_clip is not installed.
    """
    model = create_open_clip(target, pretrained=options.pretrained is not False)
    return Loaded(
        make_image_tower(model),
        read_preprocess(model),
        None,
        preprocess_from="OpenCLIP's configuration",
        assumed=() if options.pretrained is not False else ("random weights",),
    )
