"""Models of OpenCLIP as zero-shot classifiers."""

from __future__ import annotations

from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.image_text.open_clip import open_image_text
from shiftproof.models.image_text.zero_shot import load_zero_shot


def load_open_clip_classifier(target: str, options: LoadOptions) -> Loaded:
    """Load ``NAME/WEIGHTS`` as a zero-shot classifier.

    ``local-dir:FOLDER`` includes its weights. Uses the options ``pretrained``, ``classes``,
    ``templates`` and ``run_folder``.

    Raises:
        UnknownNameError: no such model or tag.
        ModelError: the weights or the tokenizer are not available, the preprocessing is not
            supported, or the model has no text tower.
        LabelError, InputError: invalid classes or templates.
        MissingExtraError: open_clip is not installed.
    """
    pretrained = options.pretrained is not False
    return load_zero_shot(
        lambda: open_image_text(target, pretrained=pretrained, device=options.device), options
    )
