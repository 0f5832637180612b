"""Image towers of OpenCLIP's models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shiftproof.errors import MissingExtraError, ModelError, UnknownNameError
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.preprocess import Preprocess
from shiftproof.models.structure import download_error, require_torch

if TYPE_CHECKING:
    import torch


def load_open_clip(target: str, options: LoadOptions) -> Loaded:
    """Load the image tower of ``NAME/WEIGHTS``, such as ``ViT-B-32/laion2b_s34b_b79k``.

    Args:
        target: a model of OpenCLIP, and a tag or the path of its weights. The weights may be left
            out with ``pretrained=False``, which leaves them random.
        options: ``pretrained``.

    Raises:
        UnknownNameError: no such model or tag.
        ModelError: no weights are named, they cannot be had, or the preprocessing cannot be
            followed.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = _open_clip()
    import torch

    name, _, tag = target.partition("/")
    known = open_clip.list_models()
    if name not in known:
        message = str(UnknownNameError.of("open_clip model", name, known))
        raise UnknownNameError(
            f"{message.partition(' Known:')[0]} open_clip.list_models() has all {len(known)}."
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if options.pretrained is False:
        tag = ""
    elif not tag:
        raise ModelError(
            f"Say which weights of {name}: open_clip:{name}/WEIGHTS, of "
            f"{', '.join(tags) or 'a file'}; or pretrained=false for none."
        )
    elif tag not in tags and not _is_path(tag):
        raise UnknownNameError.of(f"{name} weights", tag, tags)
    # Building a network draws its first weights from the global generator: put that back.
    with torch.random.fork_rng(devices=[]):
        try:
            model = open_clip.create_model(name, pretrained=tag or None)
        except Exception as error:
            raise download_error(f"open_clip:{target}", f"open_clip:{name}", error) from error
    return Loaded(
        _image_tower(model), preprocess_from(open_clip.get_model_preprocess_cfg(model)), None
    )


def preprocess_from(config: Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing of a configuration of OpenCLIP.

    Raises:
        ModelError: a way of resizing that ``Preprocess`` has not.
    """
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mode = config.get("resize_mode") or "shortest"
    if mode == "squash":
        resize: int | tuple[int, int] = (height, width)
    elif mode == "shortest" and height == width:
        resize = height
    else:
        raise ModelError(
            f"OpenCLIP's resizing {mode!r} to {height} x {width} pixels is not supported (expected "
            "'squash', or 'shortest' to a square). Build the model yourself and pass its transform: "
            "Encoder(model.visual, CallablePreprocess(transform))."
        )
    return Preprocess(
        (height, width),
        resize,
        config.get("interpolation") or "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _is_path(tag: str) -> bool:
    return tag.startswith((".", "/", "~")) or "." in tag


def _image_tower(model: torch.nn.Module) -> torch.nn.Module:
    """Return a module that gives what ``model.encode_image`` gives."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            encode: Any = self.model.encode_image
            vectors: torch.Tensor = encode(inputs)
            return vectors

    return ImageTower(model)


def _open_clip() -> Any:
    require_torch()
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError.of("open_clip", "clip") from error
    return open_clip
