"""OpenCLIP models: weights, preprocessing, and both towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.io.border import describe_error
from shiftproof.lazy import import_extra
from shiftproof.models.image_text.towers import ImageText, TextTower, TokenTower
from shiftproof.models.preprocess import Preprocess
from shiftproof.models.structure import (
    download_error,
    find_device,
    fingerprint_weights,
    require_torch,
)

if TYPE_CHECKING:
    import torch

_SCHEMES = ("local-dir:", "hf-hub:")
"""Prefixes of OpenCLIP's names that include the weights, without a tag."""


def create_open_clip(target: str, *, pretrained: bool = True) -> Any:
    """Create the model ``NAME/WEIGHTS``, such as ``ViT-B-32/laion2b_s34b_b79k``.

    ``local-dir:FOLDER`` and ``hf-hub:NAME`` include their weights; with ``pretrained`` False the
    weights are random and need no name.

    Raises:
        UnknownNameError: no such model or tag.
        ModelError: no weights are named, or they cannot be loaded.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = _import_open_clip()
    import torch

    is_scheme = target.startswith(_SCHEMES)
    name, tag = (target, "") if is_scheme else _split(open_clip, target, pretrained)
    # Building a network draws initial weights from the global generator: restore its state.
    with torch.random.fork_rng(devices=[]):
        try:
            return open_clip.create_model(name, pretrained=tag or None)
        except Exception as error:
            reported = download_error(f"open_clip:{target}", f"open_clip:{name}", error)
            if reported is error or target.startswith("local-dir:"):
                reported = ModelError(
                    f"open_clip:{target} cannot be loaded ({describe_error(error)})."
                )
            raise reported from error


def check_open_clip(target: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown OpenCLIP name or tag.

    Raises:
        UnknownNameError, ModelError, MissingExtraError: as for :func:`create_open_clip`.
    """
    if not target.startswith(_SCHEMES):
        _split(_import_open_clip(), target, options["pretrained"] is not False)


def _split(open_clip: Any, target: str, pretrained: bool) -> tuple[str, str]:
    name, _, tag = target.partition("/")
    known = open_clip.list_models()
    if name not in known:
        message = str(UnknownNameError.of("open_clip model", name, known))
        raise UnknownNameError(
            f"{message.partition(' Known:')[0]} open_clip.list_models() has all {len(known)}."
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        return name, ""
    if not tag:
        raise ModelError(
            f"Say which weights of {name}: open_clip:{name}/WEIGHTS, of "
            f"{', '.join(tags) or 'a file'}; or pretrained=false for none."
        )
    if tag not in tags and not _is_path(tag):
        raise UnknownNameError.of(f"{name} weights", tag, tags)
    return name, tag


def open_image_text(target: str, *, pretrained: bool = True, device: str = "cpu") -> ImageText:
    """Create an OpenCLIP model with both towers, on a device.

    Raises:
        UnknownNameError, ModelError, MissingExtraError: as for :func:`create_open_clip`; a
            ModelError also if the model has no text tower or no logit scale.
    """
    model = create_open_clip(target, pretrained=pretrained).eval().to(find_device(device))
    return ImageText(
        image=_slim_image_tower(model),
        texts=make_text_tower(model, target),
        scale=_number(model, "logit_scale", target, exponential=True),
        bias=_number(model, "logit_bias", target, exponential=False),
        preprocess=read_preprocess(model),
        preprocess_from="OpenCLIP's configuration",
        assumed=() if pretrained else ("random weights",),
    )


def _number(model: Any, name: str, target: str, *, exponential: bool) -> float:
    value = getattr(model, name, None)
    if value is None and exponential:
        raise ModelError(f"open_clip:{target} has no {name}, so its cosines give no logits.")
    if value is None:
        return 0.0
    if value.numel() != 1:
        raise ModelError(f"open_clip:{target}: expected one {name}, got {value.numel()}.")
    return float(value.detach().double().exp() if exponential else value.detach())


def make_text_tower(model: Any, target: str) -> TextTower:
    """Return the text tower of a model.

    ``target``, as for :func:`create_open_clip`, also gives the tokenizer.

    Raises:
        ModelError: it has none, or its tokenizer cannot be loaded.
    """
    if not callable(getattr(model, "encode_text", None)):
        raise ModelError(f"open_clip:{target} has no text tower, so it takes no sentences.")
    import torch

    name = target if target.startswith(_SCHEMES) else target.partition("/")[0]
    try:
        tokenize: Any = _import_open_clip().get_tokenizer(name)
    except Exception as error:
        raise ModelError(
            f"The tokenizer of open_clip:{target} cannot be loaded ({describe_error(error)}). Without a "
            "network it must be in the cache of the Hugging Face hub."
        ) from error

    def split(texts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        return {"input_ids": tokenize(list(texts)).to(next(model.parameters()).device)}

    def run(network: Any, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        vectors: torch.Tensor = network.encode_text(tokens["input_ids"])
        return vectors

    def encode(texts: Sequence[str]) -> torch.Tensor:
        with torch.no_grad():
            return run(model, split(texts))

    def fingerprint() -> str:
        return f"{fingerprint_weights(model)} {type(tokenize).__qualname__}"

    return TextTower(encode, fingerprint, TokenTower(model, split, run))


def make_image_tower(model: torch.nn.Module) -> torch.nn.Module:
    """Return a module that calls ``model.encode_image``."""
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


def _slim_image_tower(model: Any) -> torch.nn.Module:
    """Return ``visual``, without the text tower, if its outputs are those of the image tower."""
    import torch

    whole = make_image_tower(model)
    visual = getattr(model, "visual", None)
    if not isinstance(visual, torch.nn.Module):
        return whole
    size = read_preprocess(model).size
    with torch.inference_mode():
        drawn = torch.linspace(-1, 1, 3 * size[0] * size[1]).reshape(1, 3, *size)
        drawn = drawn.to(next(model.parameters()))
        alone, expected = visual(drawn), whole(drawn)
    same = isinstance(alone, torch.Tensor) and torch.equal(alone, expected)
    return visual if same else whole


def read_preprocess(model: Any) -> Preprocess:
    """Return OpenCLIP's preprocessing of a model."""
    return convert_config(_import_open_clip().get_model_preprocess_cfg(model))


def convert_config(config: Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing of an OpenCLIP configuration.

    Raises:
        ModelError: a resize mode that ``Preprocess`` does not support.
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


def _import_open_clip() -> Any:
    require_torch()
    return import_extra("open_clip", "clip")
