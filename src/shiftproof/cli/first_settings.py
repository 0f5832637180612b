"""What ``shiftproof init`` finds out of a model and data, and the settings that follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from shiftproof.counts import plural
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

_OF_IMAGENET = ("demo", "timm", "torchvision")
"""Sources of classifiers that are rarely trained on other classes."""

_OPTIONS = {
    "corruptions": ("common", "names or sets of them: shiftproof corruptions"),
    "severities": ("1-5", "from 1 to 5"),
    "images": ("5000", "so many of the images, the same ones in every run"),
    "adapt": ("batchnorm", "adapters beside the model: shiftproof models"),
    "batch-size": ("64", "images that the model gets at a time"),
    "device": ("auto", "cpu, cuda, mps, or the first of them that is there"),
}
"""Options that are worth a line in a new file, with a value and what it is."""


@dataclass(frozen=True)
class Seen:
    """What was found of a model or of data.

    Attributes:
        value: what the option takes.
        notes: what a person wants to know of it, a sentence each.
        task: the task that it points to, None where it may be any.
        folders: of data the folders of the classes, in order.
        numbered: of a classifier how many classes it has that are numbers alone.
    """

    value: str
    notes: tuple[str, ...] = ()
    task: Task | None = None
    folders: tuple[str, ...] = ()
    numbered: int = 0


def look_at_data(text: str) -> Seen:
    """Find out what data a path holds.

    Raises:
        InputError: there is nothing of the kind, or nothing of it can be used.
    """
    from shiftproof.data import find_dataset
    from shiftproof.data.layouts import LAYOUTS

    if text == "demo":
        return Seen("demo", ("20 photographs of ImageNet that come with the extra demo",))
    found = find_dataset(text)
    if found.problem is not None:
        raise found.problem
    folders = _find_classes(found.pictures)
    notes = (*found.sentences, *(_tell_labels(folders) if found.layout == "plain" else ()))
    return Seen(text, notes, LAYOUTS[found.layout].task, folders=folders)


def _tell_labels(folders: Sequence[str]) -> tuple[str, ...]:
    """Say where the labels of a plain folder of images come from."""
    if not folders:
        return ("no labels: how often the answer stays that of the clean image is measured",)
    shown = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
    return (f"labels: its {plural(len(folders), 'folder')} ({shown})",)


def _find_classes(pictures: Iterable[str]) -> tuple[str, ...]:
    """Return the folders of the classes, in the order in which torchvision's ImageFolder counts them."""
    parts = [name.split("/") for name in pictures]
    if any(len(words) < 2 for words in parts):
        return ()
    return tuple(sorted({words[0] for words in parts}))


def name_model(text: str) -> str:
    """Return how a model is named: a file or folder gets the source that reads it.

    Raises:
        InputError: a checkpoint whose architecture neither it nor its name says, or a folder that is
            no model.
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
            f"{path} is no model file; expected one of {', '.join(SOURCES_OF_FILES)}, or "
            "SOURCE:NAME such as timm:resnet50."
        )
    if source == "file" and "arch" not in {part.partition("=")[0] for part in query.split("&")}:
        query = "&".join(filter(None, [f"arch={find_architecture(path)}", query]))
    return f"{source}:{path}?{query}" if query else f"{source}:{path}"


def _split_query(text: str) -> tuple[Path, str]:
    """Split ``FILE?OPTION=VALUE`` where there is such a file; a name may hold a question mark."""
    path, mark, query = text.rpartition("?")
    if mark and "=" in query and not Path(text).exists():
        return Path(path), query
    return Path(text), ""


def find_architecture(path: Path) -> str:
    """Return the architecture that a checkpoint names, or that its file is called after.

    Raises:
        InputError: neither says it.
    """
    from shiftproof.models.checkpoints.file import read_content

    content = read_content(path)
    named = content.get("arch") if isinstance(content, dict) else None
    words = [named] if isinstance(named, str) else []
    words += [path.stem.rpartition("-")[0], path.stem]
    for library, known in _list_architectures():
        for word in words:
            if word in known:
                return f"{library}:{word}"
    raise InputError(
        f"{path} does not say which architecture its weights belong to; write "
        f"file:{path}?arch=timm:NAME or ?arch=torchvision:NAME. A network that neither has is made "
        "by a function of yours: python:MODULE:FUNCTION."
    )


def _list_architectures() -> Iterable[tuple[str, set[str]]]:
    import torchvision

    yield "torchvision", set(torchvision.models.list_models())
    try:
        import timm
    except ImportError:
        return
    yield "timm", set(timm.list_models())


def look_at_model(spec: str, task: Task) -> Seen:
    """Check a model's name against the sources of a task; what is here is loaded and tried.

    Nothing is downloaded: a model of a library is looked up when it is measured.

    Raises:
        UnknownNameError: the task has no such source; says the nearest.
        ShiftproofError: the file is no such model.
    """
    sources, load = _find_loader(task)
    source, _, target = spec.partition("?")[0].partition(":")
    if source not in sources:
        raise UnknownNameError.of(f"source of models for {task}", source, sources)
    is_here = source in ("onnx", "file", "python") or bool(target and Path(target).is_dir())
    if not is_here:
        return Seen(spec)
    model = load(spec)
    notes = _tell_model(model)
    is_numbered = any("numbered classes" in phrase for phrase in notes)
    return Seen(spec, notes, numbered=len(model.classes) if is_numbered else 0)


def forget_numbers(model: Seen) -> Seen:
    """Return the same without the note that its classes are numbers, once a file names them."""
    return replace(model, notes=tuple(n for n in model.notes if "numbered classes" not in n))


def name_classes(model: Seen, data: Seen) -> str:
    """Return the text of a file of class names, "" where none is needed.

    A classifier that was trained on folders by torchvision's ImageFolder or what copies it has one
    output for each, in the order of their names, and does not know them.
    """
    numbers = {str(number) for number in range(model.numbered)}
    if model.numbered != len(data.folders) or not model.numbered or numbers & set(data.folders):
        return ""
    return "".join(f"{name}\n" for name in data.folders)


def match_folders(model: Seen, data: Seen, task: Task) -> tuple[str, ...]:
    """Say where none of the folders is a class of ImageNet, which a library's models know as a rule.

    Such a model is not loaded here, so its classes are not known for certain.
    """
    from shiftproof.classes import imagenet

    source = model.value.partition(":")[0]
    if task != "classification" or source not in _OF_IMAGENET or "classes=" in model.value:
        return ()
    if not data.folders or any(imagenet().find(name) is not None for name in data.folders):
        return ()
    return (
        "None of these folders is a class of ImageNet. If the model knows ImageNet's classes alone, add "
        "class-map = FILE (rows of folder,class) or unlabeled = true to the file.",
    )


def _tell_model(model: Any) -> tuple[str, ...]:
    """Return what was taken for granted of a loaded model, and how many classes it has."""
    assumed = tuple(getattr(model, "assumed", ()))
    names = getattr(model, "classes", None)
    if names is None or any("classes" in phrase for phrase in assumed):
        return assumed
    return (*assumed, f"{plural(len(names), 'class')}")


def _find_loader(task: Task) -> tuple[Iterable[str], Callable[[str], Any]]:
    from shiftproof import models

    if task == "classification":
        return models.CLASSIFIER_LOADERS, models.load_classifier
    if task == "detection":
        return models.DETECTOR_LOADERS, models.load_detector
    return models.SEGMENTER_LOADERS, models.load_segmenter


def write_settings(model: Seen, data: Seen, task: Task, classes: str | None = None) -> str:
    """Return the text of ``shiftproof.toml``; ``classes`` is the file that names the model's classes.

    Raises:
        InputError: a name that is no UTF-8, which TOML cannot hold.
    """
    verb = VERBS[task]
    lines = [
        "# Defaults for the options of shiftproof, which reads this file in the folder where it is",
        "# started. What is typed counts more; --no-config leaves the file aside.",
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
    """Return a text as TOML writes it: as JSON does, which leaves one letter that TOML escapes."""
    if not is_utf8(text):
        raise InputError(
            f"{show_name(text)}: expected a name in UTF-8, which a TOML file can hold."
        )
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def try_again(ask: Callable[[], Seen], complain: Callable[[object], None]) -> Seen:
    """Ask until the answer can be used; what is wrong with one is said."""
    while True:
        try:
            return ask()
        except ShiftproofError as error:
            complain(error)
