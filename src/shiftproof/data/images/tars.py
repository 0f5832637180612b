"""Images in webdataset tars, read by their offsets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, final

import numpy as np

from shiftproof.classes import Classes
from shiftproof.compute.progress import progress
from shiftproof.counts import plural
from shiftproof.data.disk import all_files, shorten
from shiftproof.data.images.labels import StatedLabels, check_label, choose_key
from shiftproof.data.images.packed import PackedImages
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.io import files
from shiftproof.io.border import check_names, convert_errors
from shiftproof.io.locations import Location, expand_braces, has_braces, is_url
from shiftproof.io.tars import Entry, TarReader, is_tar, open_tar, sort_key
from shiftproof.types import Sample, Settings

MEMBER = "cls"
"""The member with the label of a sample, by webdataset's convention."""

FIELDS = ("label", "cls", "class")
"""Fields with the label in a sample's JSON, used without such a member."""

_LARGEST = 1 << 24
"""Maximum size in bytes of a member with annotations; larger ones are ignored."""


@dataclass(frozen=True)
class TarFiles:
    """The tars of a dataset: location by name, in numerical order."""

    title: str
    places: Mapping[str, Location]

    @property
    def home(self) -> Path:
        """The folder of the tars; meaningless for URLs."""
        name, place = next(iter(self.places.items()))
        return Path(place.address.removesuffix(name) or ".")

    @classmethod
    def find(cls, source: str | Path) -> TarFiles:
        """Return the tars of a file, a folder, a brace pattern or a URL.

        Names are paths below the folder, or below the common part of a pattern or a URL, so that a
        tar has the same name at every location.

        Raises:
            InputError: no tars, or two with the same name.
        """
        text = str(source)
        if is_url(text) or (has_braces(text) and not Path(text).exists()):
            return cls._find_addresses(text)
        path = Path(source)
        if path.is_file():
            return cls(path.name, {path.name: Location(str(path))})
        names = sorted(filter(is_tar, all_files(path) if path.is_dir() else ()), key=sort_key)
        check_names(path, names)
        if not names:
            raise InputError(f"{path} is no tar and holds none.")
        return cls(path.resolve().name, {name: Location(str(path / name)) for name in names})

    @classmethod
    def _find_addresses(cls, pattern: str) -> TarFiles:
        every = [Location(address) for address in expand_braces(pattern)]
        paths = [
            place.address.split("?")[0] if is_url(pattern) else place.address for place in every
        ]
        split = [path.split("/") for path in paths]
        shared = 0
        while all(len(parts) > shared + 1 and parts[shared] == split[0][shared] for parts in split):
            shared += 1
        places = {"/".join(parts[shared:]): each for parts, each in zip(split, every, strict=True)}
        strange = next((name for name in places if not is_tar(name)), None)
        if strange is not None:
            raise InputError(
                f"{Location(pattern)}: expected tars that are not compressed, got {strange}."
            )
        if len(places) < len(every):
            raise InputError(f"{Location(pattern)} names a tar twice.")
        missing = [name for name, place in places.items() if not place.is_file()]
        if missing:
            raise InputError(
                f"{Location(pattern)}: {len(missing)} of "
                f"{plural(len(every), 'tar is', 'tars are')} not there: "
                f"{shorten(missing)}."
            )
        return cls(PurePosixPath(split[0][shared - 1]).name if shared else pattern, places)


@final
class TarData(PackedImages):
    """The images of webdataset tars, with the labels of their samples.

    Ids are the tar's name and the member's, ``train-0000.tar/0001.jpg``: the keys by which
    :func:`~shiftproof.data.export_corrupted` corrupts the tars. A sample's label is its member
    ``.cls``, or the field ``label``, ``cls`` or ``class`` of its ``.json``: the index or the name of
    a class. Members are listed once; images are then read by offset, with one
    request each for a URL.

    Args:
        source: a tar that is not compressed, a folder of them at any depth, a brace pattern
            (``train-{0000..0012}.tar``), or an fsspec URL of either.
        classes: the model's classes; None leaves the images without labels.
        class_map: label to class, for labels that are not the model's.
        labeled: None reads labels if there are any; False ignores them; True requires them.
        label_key: the member (``cls``, ``txt``) or the field of the JSON with the label.
        note: receives the other members of each sample, instead of a search for labels.

    Attributes:
        sample_keys: the sample key of each image, prefixed by the tar; only with ``note``.
        label_key: the source of the labels, or None.

    Raises:
        InputError: no tars, or no images in them.
        BrokenFileError: a damaged or truncated tar, or invalid JSON.
        LabelError: several fields that could be the label, none where JSON is there, labels of some
            images only, or labels outside the classes.
    """

    def __init__(
        self,
        source: str | Path | TarFiles,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        label_key: str | None = None,
        note: Note | None = None,
    ) -> None:
        tars = source if isinstance(source, TarFiles) else TarFiles.find(source)
        stated = StatedLabels(classes, class_map=class_map, labeled=labeled, key=label_key)
        states = _Statements(stated)
        index = list_tars(tars, states.add if stated.are_read else note)
        if not index.ids:
            raise InputError(f"{tars.title}: {_explain_none(index)}")
        self._places = dict(tars.places)
        self._index = index
        labels = states.labels(tars.title, index) if stated.are_read else None
        self.label_key = states.key
        # The index is sent to workers, and only ``note`` needs the keys.
        self.sample_keys = () if note is None else tuple(index.keys)
        index.keys.clear()
        listed = None if labels is None else [labels[key] for key in index.ids]
        super().__init__(tars.title, index.ids, listed, classes)
        index.ids.clear()
        self.omissions = tuple(index.omissions)

    def content(self, sample: Sample) -> bytes:
        """Return the encoded bytes of an image."""
        tar, offset, size = self._index.spot(self._rows[sample.id])
        return self._places[tar].read(offset, size)

    def count_bytes(self) -> int:
        """Return the total size of all tars."""
        return sum(place.size() for place in self._places.values())

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each image's bytes; for URLs, of its tar's state and its offset."""
        states = {
            name: f"{place.size()} {place.state() or ''}"
            for name, place in self._places.items()
            if place.is_remote
        }

        def fingerprint_row(row: int) -> str:
            tar, offset, size = self._index.spot(row)
            if tar in states:
                return files.fingerprint([f"{states[tar]} {offset} {size}".encode()])
            try:
                return files.fingerprint([self._places[tar].read(offset, size)])
            except BrokenFileError as error:
                return files.fingerprint([f"unreadable: {error}".encode()])

        rows = [self._rows[sample.id] for sample in self.samples]
        with ThreadPoolExecutor() as pool:
            return list(pool.map(fingerprint_row, rows, chunksize=64))

    def settings(self) -> Settings:
        """Return the settings for the records, including the source of the labels."""
        return {**super().settings(), "tars": len(self._places), "label_key": self.label_key}


@dataclass(frozen=True)
class Beside:
    """A member with annotations of its sample.

    Attributes:
        sample: the key of its sample, with the tar before it.
        name: its name in messages.
        suffix: the suffix of its name: ``cls``, ``json``, ``txt``, ...
    """

    sample: str
    name: str
    suffix: str
    _source: TarReader
    _entry: Entry

    def read(self) -> bytes:
        """Return its content; only while its tar is being listed."""
        return self._source.read(self._entry.info)


Note: TypeAlias = Callable[[Beside], None]


@dataclass
class TarIndex:
    """The location of each image.

    Attributes:
        ids: the ids of the images, in order.
        keys: the keys of their samples, each prefixed by the tar.
        tars: the names of the tars.
        tar: ``(N,)`` each image's index in ``tars``.
        offset: ``(N,)`` its offset in bytes.
        size: ``(N,)`` its size in bytes.
        omissions: a sentence on the members that are named like images but are not.
    """

    ids: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    tar: Sequence[int] | np.ndarray[Any, Any] = field(default_factory=list)
    offset: Sequence[int] | np.ndarray[Any, Any] = field(default_factory=list)
    size: Sequence[int] | np.ndarray[Any, Any] = field(default_factory=list)
    omissions: list[str] = field(default_factory=list)

    def spot(self, row: int) -> tuple[str, int, int]:
        """Return the tar of an image, and its offset and size in bytes."""
        return self.tars[int(self.tar[row])], int(self.offset[row]), int(self.size[row])


def list_tars(tars: TarFiles, note: Note | None = None) -> TarIndex:
    """List the images of tars.

    Raises:
        BrokenFileError: a tar that is damaged or cut.
    """
    ids: list[str] = []
    keys: list[str] = []
    strange: list[str] = []
    more = 0
    spots: list[tuple[int, int, int]] = []
    with progress("Index", len(tars.places)) as advance:
        for number, (name, place) in enumerate(tars.places.items()):
            with open_tar(place, name) as source:
                for entry in source.entries():
                    key = f"{name}/{entry.key}"
                    if entry.is_image:
                        ids.append(f"{name}/{entry.info.name}")
                        keys.append(key)
                        spots.append((number, entry.info.offset_data, entry.info.size))
                    elif (reason := entry.image_fault) is not None:
                        more += bool(strange)
                        strange = strange or [f"{name}/{entry.title}: {reason}"]
                    elif note is not None and _is_small(entry):
                        note(Beside(key, f"{name}/{entry.title}", entry.suffix, source, entry))
            advance(note=name)
    omissions = [f"{first}{f'; and {more:,} more' if more else ''}" for first in strange]
    tar, offset, size = np.array(spots, np.int64).reshape(-1, 3).T
    return TarIndex(ids, keys, list(tars.places), tar.copy(), offset.copy(), size.copy(), omissions)


def _is_small(entry: Entry) -> bool:
    return entry.fault is None and entry.info.isreg() and entry.info.size <= _LARGEST


def read_object(data: bytes, name: str) -> Mapping[str, Any]:
    """Return the object in a sample's JSON.

    Raises:
        BrokenFileError: it is none.
    """
    with convert_errors(name, "not valid JSON"):
        value = json.loads(data)
    if not isinstance(value, dict):
        raise BrokenFileError(f"{name}: expected a JSON object, got a {type(value).__name__}.")
    return value


def _explain_none(index: TarIndex) -> str:
    beside = f" (left aside: {index.omissions[0]})" if index.omissions else ""
    return f"the tars hold no images{beside}."


class _Statements:
    """Candidate labels in the samples of tars."""

    def __init__(self, stated: StatedLabels) -> None:
        self._stated = stated
        self._of_member: dict[str, str] = {}
        self._of_json: dict[str, dict[str, Any]] = {}
        self._fields: dict[str, None] = {}
        self.key: str | None = None

    def add(self, member: Beside) -> None:
        """Add the candidates of one member."""
        if member.suffix == (self._stated.key or MEMBER):
            with convert_errors(member.name, "expected a label as UTF-8 text"):
                self._of_member[member.sample] = member.read().decode("utf-8-sig")
        elif member.suffix == "json":
            value = read_object(member.read(), member.name)
            self._fields.update(dict.fromkeys(value))
            wanted = FIELDS if self._stated.key is None else (self._stated.key,)
            self._of_json[member.sample] = {key: value[key] for key in wanted if key in value}

    def labels(self, title: str, index: TarIndex) -> dict[str, int] | None:
        """Return the class of each image by its id; None without labels."""
        found = self._choose_labels(title)
        if not found:
            if self._stated.labeled or self._stated.key is not None or self._of_json:
                raise LabelError(self._explain_no_labels(title))
            return None
        without = [
            key for key, sample in zip(index.ids, index.keys, strict=True) if sample not in found
        ]
        if without:
            raise LabelError(
                f"{title}: {len(without)} of {plural(len(index.ids), 'image')} have no {self.key} "
                f"(first: "
                f"{without[0]}); expected a label of all, or measure without labels (--unlabeled, "
                "labeled=False)."
            )
        meant: dict[str, int] = {}
        labels = {}
        for key, sample in zip(index.ids, index.keys, strict=True):
            text = check_label(found[sample], f"{key}, {self.key}")
            if text not in meant:
                meant[text] = self._stated.index(text, f"{key}, {self.key}")
            labels[key] = meant[text]
        return labels

    def _choose_labels(self, title: str) -> Mapping[str, Any]:
        """Return the member or field with the labels."""
        if self._of_member:
            self.key = self._stated.key or MEMBER
            return self._of_member
        there: Iterable[str] = {key for values in self._of_json.values() for key in values}
        self.key = choose_key(there, (self._stated.key,) if self._stated.key else FIELDS, title)
        if self.key is None:
            return {}
        return {
            sample: values[self.key]
            for sample, values in self._of_json.items()
            if self.key in values
        }

    def _explain_no_labels(self, title: str) -> str:
        wanted = self._stated.key
        looked = (
            f"a member .{wanted} or a field {wanted}"
            if wanted
            else (f"a member .{MEMBER}, or a field {', '.join(FIELDS)} in its JSON")
        )
        there = f"; the JSON has {shorten(self._fields)}" if self._fields else ""
        return (
            f"{title}: no sample has {looked}{there}. Say what states the label (--label-key), or "
            "measure without labels (--unlabeled, labeled=False)."
        )
