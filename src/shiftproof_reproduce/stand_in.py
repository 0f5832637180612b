"""A stand-in for CLIP: a small OpenCLIP model trained on images and sentences with class names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof import Classes, Classifier, load_classifier
from shiftproof.errors import MissingExtraError
from shiftproof.io import make_folder, write_bytes
from shiftproof.rng import generator
from shiftproof_reproduce.norm_networks import PREPROCESS, SIDE

if TYPE_CHECKING:
    import torch

TITLE = "CLIP stand-in, batch norm"

TEMPLATES = (
    "a photo of a {}.",
    "a drawing of a {}.",
    "a small picture of the {}.",
    "this is a {}.",
)
"""The templates of its training sentences."""

TEMPLATE = TEMPLATES[0]
"""The template of its zero-shot classifier."""

CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": SIDE, "layers": [1, 1, 1, 1], "width": 24, "head_width": 24,
    },
    "text_cfg": {
        "context_length": 20, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 2,
        "mlp_ratio": 2.0,
    },
}  # fmt: skip
"""OpenCLIP configuration: a small version of CLIP's ResNet, and a small transformer with the full
vocabulary.
"""


def build_towers(folder: Path) -> torch.nn.Module:
    """Return the model with new weights, drawn from torch's global state.

    The configuration is written to ``folder``, so that OpenCLIP can load the model.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    preprocess = {"mean": list(PREPROCESS.mean), "std": list(PREPROCESS.std)}
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    path = make_folder(folder) / "open_clip_config.json"
    write_bytes(path, json.dumps(config, indent=1).encode())
    network: torch.nn.Module = _open_clip().create_model(f"local-dir:{folder}", load_weights=False)
    return network


def measure_losses(
    network: Any,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    classes: Classes,
    folder: Path,
    *,
    seed: int,
    epoch: int,
) -> Iterator[torch.Tensor]:
    """Yield for each batch the contrastive loss between its images and its classes' sentences.

    A batch has one template and one sentence per class in it. The loss from images to sentences is
    the cross-entropy over these classes; that from sentences to images is over the images, with all
    images of the class as positives.
    """
    import torch

    tokenize = _open_clip().get_tokenizer(f"local-dir:{folder}")
    tokens = [tokenize([t.format(name) for name in classes.names]) for t in TEMPLATES]
    order = generator(seed, "templates", str(epoch))
    for inputs, targets in batches:
        there, own = torch.unique(targets, return_inverse=True)
        sentences = tokens[int(order.integers(len(tokens)))][there]
        images = network.encode_image(inputs, normalize=True)
        texts = network.encode_text(sentences, normalize=True)
        logits = network.logit_scale.exp() * images @ texts.T
        to_images = torch.log_softmax(logits, 0).gather(1, own[:, None])
        yield torch.nn.functional.cross_entropy(logits, own) - to_images.mean()


def save_towers(network: torch.nn.Module, folder: Path) -> None:
    """Write the weights beside the configuration."""
    import io

    import torch

    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    write_bytes(folder / "open_clip_pytorch_model.bin", content.getvalue())


def open_classifier(folder: Path, classes: Classes, *, template: str = TEMPLATE) -> Classifier:
    """Return the zero-shot classifier of the model in a folder."""
    return load_classifier(f"open_clip:local-dir:{folder}", classes=classes, templates=template)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError.of("open_clip", "clip") from error
    return open_clip
