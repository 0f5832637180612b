"""Open-vocabulary detectors of transformers, prompted by class names: OWL-ViT, Grounding DINO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from shiftproof.classes import Classes
from shiftproof.errors import InputError, ModelError
from shiftproof.io import files
from shiftproof.models.detectors.by_size import (
    detect_by_size,
    map_groups,
    read_strongest,
    run_detector,
)
from shiftproof.models.detectors.omdet import OmDetConvention, make_omdet_words
from shiftproof.models.detectors.options import SCORE, DetectorOptions, LoadedDetector
from shiftproof.models.image_text.pretrained import open_pretrained, open_transformers
from shiftproof.models.image_text.prompts import make_class_names, read_templates
from shiftproof.types import Detections, Image, Settings

if TYPE_CHECKING:
    import torch

LIMIT = 300
"""Boxes per image in Grounding DINO's own evaluation on COCO (``num_select``)."""

_WORDS = ("input_ids", "attention_mask", "token_type_ids")

_OWL, _GROUNDING = ("owlvit", "owlv2"), ("grounding-dino", "mm-grounding-dino")
_OMDET = ("omdet-turbo",)


def load_open_vocabulary(target: str, config: Any, options: DetectorOptions) -> LoadedDetector:
    """Load a detector whose classes are text prompts.

    ``classes``, or else ``vocabulary``, are the prompted names; ``template`` is OWL-ViT's prompt.

    Raises:
        InputError: no classes are given, or a template without a placeholder.
        LabelError: a class without a name, or two with the same.
        ModelError: it cannot be loaded, or its kind is not supported.
    """
    kind = str(config.model_type)
    if kind not in (*_OWL, *_GROUNDING, *_OMDET):
        raise ModelError(
            f"transformers:{target} is a {kind!r}; of the detectors that take words, OWL-ViT, OWLv2, "
            "Grounding DINO and OmDet-Turbo are read here."
        )
    classes = options.classes or options.vocabulary
    if classes is None:
        raise InputError(
            f"transformers:{target} needs class names: give them by classes=NAMES.txt (one name a "
            "line), or a list of names."
        )
    names = make_class_names(classes)
    template = _read_template(target, kind, options.template)
    transformers = open_transformers()
    what = "a detector that takes words"
    tokenizer = open_pretrained(transformers.AutoTokenizer, target, what)
    processor = open_pretrained(transformers.AutoImageProcessor, target, what)
    network = open_pretrained(transformers.AutoModelForZeroShotObjectDetection, target, what)
    score = SCORE if options.score is None else options.score
    convention: OwlConvention | GroundingConvention | OmDetConvention
    if kind in _OWL:
        words, note = _make_owl_queries(tokenizer, network, names, template)
        convention = OwlConvention(processor, words, note, score, options.limit)
    elif kind in _OMDET:
        reader = transformers.OmDetTurboProcessor(processor, tokenizer)
        tokens, note = make_omdet_words(tokenizer, names), "each name alone, and one task"
        convention = OmDetConvention(processor, reader, tokens, score, options.limit)
    else:
        prompts = tuple(_make_grounding_prompts(tokenizer, network, names))
        note = f"{len(prompts)} prompts" if len(prompts) > 1 else "one prompt of all names"
        limit = LIMIT if options.limit is None else options.limit
        convention = GroundingConvention(processor, prompts, len(names), score, limit)
    return LoadedDetector(
        network.float().eval(), Classes(classes.names), convention, (f"asked in words, {note}",)
    )


def _read_template(target: str, kind: str, given: str | None) -> str:
    """Check a template before anything is loaded, and return it; by default the name alone."""
    if given is None:
        return "{}"
    if kind not in _OWL:
        raise InputError(
            f"transformers:{target} takes class names, no sentences; leave out the template."
        )
    return read_templates([given])[0]


# ---------------------------------------------------------------- OWL-ViT


@final
@dataclass(frozen=True, eq=False)
class OwlConvention:
    """The inputs and outputs of OWL-ViT and OWLv2.

    Every image is queried with every class. A box gets the class of its highest-scoring query.

    Args:
        processor: the image processor of the network.
        words: the tokenized queries, ``(K, tokens)`` each.
        template: the prompt into which the names are inserted.
        score: score threshold of a box.
        limit: maximum number of boxes per image, by score; None keeps all.
    """

    processor: Any
    words: Mapping[str, torch.Tensor]
    template: str
    score: float = SCORE
    limit: int | None = None

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        """Run the network on a batch of images, grouped by size."""

        def detect(inputs: Mapping[str, Any], some: Sequence[Image]) -> list[Detections]:
            words = {name: value.repeat(len(some), 1) for name, value in self.words.items()}
            read = self.processor.post_process_object_detection
            found = run_detector(network, {**words, **inputs}, read, some, device, self.score)
            return [read_strongest(result, self.limit) for result in found]

        return detect_by_size(self.processor, images, detect)

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return the settings of the decoding, including the processor's own."""
        return {
            "library": "transformers",
            "template": self.template,
            "words": _fingerprint(self.words),
            "score": self.score,
            "limit": self.limit,
            "processor": self.processor.to_json_string(),
        }


def _make_owl_queries(
    tokenizer: Any, network: Any, names: Sequence[str], template: str
) -> tuple[dict[str, torch.Tensor], str]:
    """Return a tokenized query for each name, and the template in words."""
    longest = int(network.config.text_config.max_position_embeddings)
    tokens = tokenizer(
        [template.replace("{}", name) for name in names],
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=longest,
    )
    return {name: tokens[name] for name in _WORDS[:2] if name in tokens}, f"{template!r}"


# ---------------------------------------------------------------- Grounding DINO


@dataclass(frozen=True, eq=False)
class Prompt:
    """Names joined as a prompt of Grounding DINO: "cat. dog."

    Attributes:
        words: the tokenized prompt, ``(1, tokens)`` each.
        first: index of the first name's class.
        spans: the token range (start, end) of each name; the end is exclusive.
    """

    words: Mapping[str, torch.Tensor]
    first: int
    spans: tuple[tuple[int, int], ...]


@final
@dataclass(frozen=True, eq=False)
class GroundingConvention:
    """The inputs and outputs of Grounding DINO.

    The network gives each box a score for each token of the prompt. The score of a class is the
    mean over its name's tokens, and the highest-scoring pairs of box and class are kept, as in the
    model's own evaluation on COCO (Liu et al. 2023, arXiv 2303.05499, ``demo/test_ap_on_coco.py``).
    Names that do not fit into one prompt are split over several.

    Differs from ``post_process_grounded_object_detection`` of transformers, which gives each box
    the text of all tokens above a threshold: which may mix words of two names.

    Args:
        processor: the image processor of the network.
        prompts: prompts with all names.
        count: number of classes.
        score: score threshold of a box.
        limit: maximum number of boxes per image.
    """

    processor: Any
    prompts: tuple[Prompt, ...]
    count: int
    score: float = SCORE
    limit: int = LIMIT

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        """Run the network on a batch of images, once for each prompt.

        Images are grouped by size, since padding changes the predictions.
        """
        return map_groups(
            [image.shape for image in images],
            lambda places: self._detect(network, [images[place] for place in places], device),
        )

    def _detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        import torch

        def detect(inputs: Mapping[str, Any], some: Sequence[Image]) -> list[Detections]:
            sizes = torch.tensor([[image.shape[1], image.shape[0]] * 2 for image in some])
            scores, boxes = [], []
            for prompt in self.prompts:
                words = {name: value.repeat(len(some), 1) for name, value in prompt.words.items()}
                given = {**words, **inputs}
                outputs = network(**{name: value.to(device) for name, value in given.items()})
                tokens = outputs.logits.float().sigmoid()
                means = [tokens[:, :, low:high].mean(dim=2) for low, high in prompt.spans]
                scores.append(self._pad_classes(torch.stack(means, dim=2), prompt))
                boxes.append(_to_corners(outputs.pred_boxes.float()) * sizes[:, None].to(device))
            together = zip(torch.cat(scores, dim=1), torch.cat(boxes, dim=1), strict=True)
            return [self._read(*each) for each in together]

        return detect_by_size(self.processor, images, detect)

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return the settings of the decoding, including the processor's own."""
        return {
            "library": "transformers",
            "words": [_fingerprint(prompt.words) for prompt in self.prompts],
            "score": self.score,
            "limit": self.limit,
            "processor": self.processor.to_json_string(),
        }

    def _pad_classes(self, scores: torch.Tensor, prompt: Prompt) -> torch.Tensor:
        """Return ``(N, boxes, count)``: the scores of a prompt's classes, and 0 for all others."""
        among = scores.new_zeros((*scores.shape[:2], self.count))
        among[:, :, prompt.first : prompt.first + len(prompt.spans)] = scores
        return among

    def _read(self, scores: torch.Tensor, boxes: torch.Tensor) -> Detections:
        values = scores.flatten().cpu().numpy()
        order = (-values).argsort(kind="stable")[: self.limit]
        order = order[values[order] > self.score]
        corners = boxes.cpu().numpy()[order // self.count]
        return Detections(corners, values[order].clip(0, 1), order % self.count)


def _make_grounding_prompts(tokenizer: Any, network: Any, names: Sequence[str]) -> Iterator[Prompt]:
    """Yield as few prompts as can hold all names."""
    room = int(network.config.max_text_len) - 2  # for the tokens at both ends
    pieces = [
        tokenizer(_normalize_name(name), add_special_tokens=False)["input_ids"] for name in names
    ]
    [stop] = tokenizer(".", add_special_tokens=False)["input_ids"]
    first = 0
    while first < len(names):
        last, used = first, 0
        while last < len(names) and used + len(pieces[last]) + 1 <= room:
            used += len(pieces[last]) + 1
            last += 1
        if last == first:
            raise InputError(
                f"The name {names[first]!r} is longer than the {room} tokens that the model takes."
            )
        yield _make_prompt(tokenizer, names[first:last], pieces[first:last], stop, first)
        first = last


def _make_prompt(
    tokenizer: Any, names: Sequence[str], pieces: Sequence[Sequence[int]], stop: int, first: int
) -> Prompt:
    tokens = tokenizer(" ".join(f"{_normalize_name(name)}." for name in names), return_tensors="pt")
    expected = [token for piece in pieces for token in (*piece, stop)]
    if tokens["input_ids"][0, 1:-1].tolist() != expected:
        raise ModelError(
            "The tokenizer tokenizes names differently when they are joined, so it is unclear "
            f"which tokens belong to which name: {', '.join(names)[:100]}."
        )
    spans, at = [], 1
    for piece in pieces:
        spans.append((at, at + len(piece)))
        at += len(piece) + 1
    words = {name: tokens[name] for name in _WORDS if name in tokens}
    return Prompt(words, first, tuple(spans))


def _normalize_name(name: str) -> str:
    """Return a name in lower case, without the separators of a prompt."""
    return " ".join(name.lower().replace(".", " ").replace("?", " ").split())


def _to_corners(boxes: torch.Tensor) -> torch.Tensor:
    """Convert boxes from (center x, center y, width, height) to corners."""
    import torch

    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


# ---------------------------------------------------------------- both


def _fingerprint(words: Mapping[str, torch.Tensor]) -> str:
    return files.fingerprint(value.numpy().tobytes() for value in words.values())
