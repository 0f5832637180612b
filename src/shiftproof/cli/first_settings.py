"""Inspection of a model and data by ``shiftproof init``, and the resulting settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ShiftproofError, UnknownNameError
from shiftproof.io.border import is_utf8, show_name
from shiftproof.specs import SOURCES_OF_FILES

Task: TypeAlias = Literal["classification", "detection", "segmentation"]

VERBS: dict[Task, str] = {
    "classification": "bench",
    "detection": "detect",
    "segmentation": "segment",
}
"""The verb that measures each task."""

_IMAGENET_SOURCES = ("demo", "timm", "torchvision")
"""Sources of classifiers that are rarely trained on other classes."""

_OPTIONS = {
    "corruptions": ("common", "names or sets of them: shiftproof corruptions"),
    "severities": ("1-5", "from 1 to 5"),
    "images": ("5000", "number of images, the same ones in every run"),
    "adapt": ("batchnorm", "adapters beside the model: shiftproof models"),
    "batch-size": ("64", "images that the model gets at a time"),
    "device": ("auto", "cpu, cuda, mps, or the first of them that is available"),
}
"""Options in a new file, each with a value and a comment."""


@dataclass(frozen=True)
class Inspected:
    """The result of inspecting a model or data.

    Attributes:
        value: value of the option.
        notes: notes for the user, one sentence each.
        task: the task that it implies; None if unknown.
        folders: for data, the folders of the classes, in order.
        numbered: for a classifier, the number of its unnamed classes.
    """

    value: str
    notes: tuple[str, ...] = ()
    task: Task | None = None
    folders: tuple[str, ...] = ()
    numbered: int = 0


def inspect_data(text: str) -> Inspected:
    """Inspect the data at a path.

    Raises:
        InputError: there are no usable data.
    """
    from shiftproof.data import find_dataset
    from shiftproof.data.layouts import LAYOUTS

    if text == "demo":
        return Inspected("demo", ("20 photographs of ImageNet that come with the extra demo",))
    dataset = find_dataset(text)
    if dataset.problem is not None:
        raise dataset.problem
    folders = _find_classes(dataset.images)
    notes = (*dataset.sentences, *(_describe_labels(folders) if dataset.layout == "plain" else ()))
    return Inspected(text, notes, LAYOUTS[dataset.layout].task, folders=folders)


def _describe_labels(folders: Sequence[str]) -> tuple[str, ...]:
    """Describe the source of the labels of a folder of images."""
    if not folders:
        return ("no labels: how often the answer stays that of the clean image is measured",)
    shown = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
    return (f"labels: its {pluralize(len(folders), 'folder')} ({shown})",)


def _find_classes(pictures: Iterable[str]) -> tuple[str, ...]:
    """Return the folders of the classes, in the order in which torchvision's ImageFolder counts them."""
    parts = [name.split("/") for name in pictures]
    if any(len(components) < 2 for components in parts):
        return ()
    return tuple(sorted({components[0] for components in parts}))


def name_model(text: str) -> str:
    """Return the spec of a model: a file or folder gets the source that reads it.

    Raises:
        InputError: a checkpoint of unknown architecture, or a folder that is not a model.
    """
    path, query = _split_query(text)
    if not path.exists():
        return text
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"{path} is a folder without a config.json; expected a model saved by transformers, "
                "a file of weights or of ONNX, or SOURCE:NAME such as timm:resnet50."
            )
        return f"transformers:{text}"
    if path.suffix == ".py":
        raise InputError(
            f"{path} is a program; name a function in it that returns a network: "
            f"python:{path.stem}:FUNCTION"
        )
    source = SOURCES_OF_FILES.get(path.suffix.lower())
    if source is None:
        raise InputError(
            f"{path} is not a model file; expected one of {', '.join(SOURCES_OF_FILES)}, or "
            "SOURCE:NAME such as timm:resnet50."
        )
    if source == "file" and "arch" not in {part.partition("=")[0] for part in query.split("&")}:
        query = "&".join(filter(None, [f"arch={find_architecture(path)}", query]))
    return f"{source}:{path}?{query}" if query else f"{source}:{path}"


def _split_query(text: str) -> tuple[Path, str]:
    """Split ``FILE?OPTION=VALUE`` unless the whole text is an existing file."""
    path, mark, query = text.rpartition("?")
    if mark and "=" in query and not Path(text).exists():
        return Path(path), query
    return Path(text), ""


def find_architecture(path: Path) -> str:
    """Return the architecture of a checkpoint, from its content or its file name.

    Raises:
        InputError: neither names it.
    """
    from shiftproof.models.checkpoints.file import read_content

    content = read_content(path)
    architecture = content.get("arch") if isinstance(content, dict) else None
    candidates = [architecture] if isinstance(architecture, str) else []
    candidates += [path.stem.rpartition("-")[0], path.stem]
    for library, names in _list_architectures():
        for candidate in candidates:
            if candidate in names:
                return f"{library}:{candidate}"
    raise InputError(
        f"{path} does not say which architecture its weights belong to; write "
        f"file:{path}?arch=timm:NAME or ?arch=torchvision:NAME. For another network give your own "
        "function that returns it: python:MODULE:FUNCTION."
    )


def _list_architectures() -> Iterable[tuple[str, set[str]]]:
    import torchvision

    yield "torchvision", set(torchvision.models.list_models())
    try:
        import timm
    except ImportError:
        return
    yield "timm", set(timm.list_models())


def inspect_model(spec: str, task: Task) -> Inspected:
    """Check a model's spec against the sources of a task; local models are loaded and tried.

    Nothing is downloaded: models of libraries are only checked when they are measured.

    Raises:
        UnknownNameError: the task has no such source; suggests the nearest.
        ShiftproofError: the file is not such a model.
    """
    sources, load = _find_loader(task)
    source, _, target = spec.partition("?")[0].partition(":")
    if source not in sources:
        raise UnknownNameError.of(f"source of models for {task}", source, sources)
    is_local = source in ("onnx", "file", "python") or bool(target and Path(target).is_dir())
    if not is_local:
        return Inspected(spec)
    model = load(spec)
    notes = _describe_model(model)
    is_numbered = any("numbered classes" in phrase for phrase in notes)
    return Inspected(spec, notes, numbered=len(model.classes) if is_numbered else 0)


def drop_numbered_note(model: Inspected) -> Inspected:
    """Return the model without the note on unnamed classes, once a file names them."""
    return replace(model, notes=tuple(n for n in model.notes if "numbered classes" not in n))


def name_classes(model: Inspected, data: Inspected) -> str:
    """Return the text of a file of class names, "" where none is needed.

    A classifier trained with torchvision's ImageFolder has one output per folder, sorted by name, but does
    not store the names.
    """
    numbers = {str(number) for number in range(model.numbered)}
    if model.numbered != len(data.folders) or not model.numbered or numbers & set(data.folders):
        return ""
    return "".join(f"{name}\n" for name in data.folders)


def match_folders(model: Inspected, data: Inspected, task: Task) -> tuple[str, ...]:
    """Note if no folder is a class of ImageNet, as models of libraries usually expect.

    Such models are not loaded here, so their classes are not certain.
    """
    from shiftproof.classes import imagenet

    source = model.value.partition(":")[0]
    if task != "classification" or source not in _IMAGENET_SOURCES or "classes=" in model.value:
        return ()
    if not data.folders or any(imagenet().find(name) is not None for name in data.folders):
        return ()
    return (
        "None of these folders is a class of ImageNet. If the model has only ImageNet's classes, add "
        "class-map = FILE (rows of folder,class) or unlabeled = true to the file.",
    )


def _describe_model(model: Any) -> tuple[str, ...]:
    """Return the assumptions about a loaded model, and its number of classes."""
    assumed = tuple(getattr(model, "assumed", ()))
    names = getattr(model, "classes", None)
    if names is None or any("classes" in phrase for phrase in assumed):
        return assumed
    return (*assumed, f"{pluralize(len(names), 'class')}")


def _find_loader(task: Task) -> tuple[Iterable[str], Callable[[str], Any]]:
    from shiftproof import models

    if task == "classification":
        return models.CLASSIFIER_LOADERS, models.load_classifier
    if task == "detection":
        return models.DETECTOR_LOADERS, models.load_detector
    return models.SEGMENTER_LOADERS, models.load_segmenter


def write_settings(
    model: Inspected, data: Inspected, task: Task, classes: str | None = None
) -> str:
    """Return the text of ``shiftproof.toml``; ``classes`` is the file that names the model's classes.

    Raises:
        InputError: a name that is not UTF-8, which TOML cannot represent.
    """
    verb = VERBS[task]
    lines = [
        "# Defaults for the options of shiftproof, which reads this file in the folder where it is",
        "# started. Typed options override them; --no-config ignores the file.",
        "# Above the first table: for every verb that has the option. In a table: for that verb.",
        "",
        f"[{verb}]",
        *_comment(model.notes),
        f"model = {_quote(model.value)}",
        *_comment(data.notes),
        f"data = {_quote(data.value)}",
        *([] if classes is None else [f"classes = {_quote(classes)}"]),
        'out = "run"',
        "",
        f"# More options: shiftproof {verb} --help",
    ]
    lines += [
        f"# {name} = {_quote(value)}  # {about}"
        for name, (value, about) in _OPTIONS.items()
        if not (task == "segmentation" and name == "images")
    ]
    return "\n".join(lines) + "\n"


def _comment(sentences: Iterable[str]) -> list[str]:
    return [f"# {show_name(sentence)}" for sentence in sentences]


def _quote(text: str) -> str:
    """Return a text as a TOML string: as JSON, which leaves one character that TOML escapes."""
    if not is_utf8(text):
        raise InputError(f"{show_name(text)}: expected a name in UTF-8, as TOML files require.")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def ask_until_valid(ask: Callable[[], Inspected], complain: Callable[[object], None]) -> Inspected:
    """Ask until the answer is valid, printing what is wrong."""
    while True:
        try:
            return ask()
        except ShiftproofError as error:
            complain(error)
