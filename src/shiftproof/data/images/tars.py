"""Images in webdataset tars, read by their offsets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, final

import numpy as np

from shiftproof.classes import Classes
from shiftproof.compute.progress import progress
from shiftproof.counts import pluralize
from shiftproof.data.disk import list_files, shorten
from shiftproof.data.images.labels import LabelReader, check_label, choose_key
from shiftproof.data.images.packed import PackedImages
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.io import files
from shiftproof.io.border import check_names, convert_errors
from shiftproof.io.locations import Location, expand_braces, has_braces, is_url
from shiftproof.io.tars import Entry, TarReader, is_tar, open_tar, sort_key
from shiftproof.io.text import find_json_fault
from shiftproof.types import Sample, Settings

LABEL_MEMBER = "cls"
"""The suffix of the member with the label of a sample, by webdataset's convention."""

LABEL_FIELDS = ("label", "cls", "class")
"""Fields with the label in a sample's JSON, used if there is no such member."""

_MAX_MEMBER_BYTES = 1 << 24
"""Maximum size of a member with annotations; larger ones are ignored."""


@dataclass(frozen=True)
class TarFiles:
    """The tars of a dataset: location by name, in numerical order."""

    title: str
    locations: Mapping[str, Location]

    @property
    def folder(self) -> Path:
        """The folder of the tars; meaningless for URLs."""
        name, location = next(iter(self.locations.items()))
        return Path(location.address.removesuffix(name) or ".")

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
        names = sorted(filter(is_tar, list_files(path) if path.is_dir() else ()), key=sort_key)
        check_names(path, names)
        if not names:
            raise InputError(f"{path} is not a tar and holds none.")
        return cls(path.resolve().name, {name: Location(str(path / name)) for name in names})

    @classmethod
    def _find_addresses(cls, pattern: str) -> TarFiles:
        every_location = [Location(address) for address in expand_braces(pattern)]
        addresses = [location.address for location in every_location]
        if is_url(pattern):
            addresses = [address.split("?")[0] for address in addresses]
        parts = [address.split("/") for address in addresses]
        # The name of each tar is its path below the folders that all share.
        depth = 0
        while all(len(one) > depth + 1 and one[depth] == parts[0][depth] for one in parts):
            depth += 1
        names = ["/".join(one[depth:]) for one in parts]
        locations = dict(zip(names, every_location, strict=True))
        other = next((name for name in names if not is_tar(name)), None)
        if other is not None:
            raise InputError(
                f"{Location(pattern)}: expected tars that are not compressed, got {other}."
            )
        if len(locations) < len(names):
            raise InputError(f"{Location(pattern)} names a tar twice.")
        missing = [name for name, location in locations.items() if not location.is_file()]
        if missing:
            raise InputError(
                f"{Location(pattern)}: {len(missing)} of "
                f"{pluralize(len(names), 'tar does', 'tars do')} not exist: {shorten(missing)}."
            )
        return cls(PurePosixPath(parts[0][depth - 1]).name if depth else pattern, locations)


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
        on_member: called with the other members of each sample, instead of reading labels.

    Attributes:
        sample_keys: the sample key of each image, prefixed by the tar; only with ``on_member``.
        label_key: the source of the labels, or None.

    Raises:
        InputError: no tars, or no images in them.
        BrokenFileError: a damaged or truncated tar, or invalid JSON.
        LabelError: several fields that could be the label, JSON without such a field, labels for only
            some of the images, or labels outside the classes.
    """

    def __init__(
        self,
        source: str | Path | TarFiles,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        label_key: str | None = None,
        on_member: MemberCallback | None = None,
    ) -> None:
        tars = source if isinstance(source, TarFiles) else TarFiles.find(source)
        reader = LabelReader(classes, class_map=class_map, labeled=labeled, key=label_key)
        candidates = _LabelCandidates(reader)
        index = list_tars(tars, candidates.add if reader.reads_labels else on_member)
        if not index.ids:
            omitted = f" (left aside: {index.omissions[0]})" if index.omissions else ""
            raise InputError(f"{tars.title}: the tars hold no images{omitted}.")
        self._locations = dict(tars.locations)
        self._index = index
        labels = candidates.find_labels(tars.title, index) if reader.reads_labels else None
        self.label_key = candidates.key
        # The index is sent to workers, and only ``on_member`` needs the keys.
        self.sample_keys = () if on_member is None else tuple(index.keys)
        index.keys.clear()
        super().__init__(tars.title, index.ids, labels, classes)
        index.ids.clear()
        self.omissions = tuple(index.omissions)

    def read_content(self, sample: Sample) -> bytes:
        """Return the encoded bytes of an image."""
        tar, offset, size = self._index.locate(self._rows[sample.id])
        return self._locations[tar].read(offset, size)

    def count_bytes(self) -> int:
        """Return the total size of all tars."""
        return sum(location.size() for location in self._locations.values())

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each image's bytes; for URLs, of its tar's state and its offset."""
        states = {
            name: f"{location.size()} {location.state() or ''}"
            for name, location in self._locations.items()
            if location.is_remote
        }

        def fingerprint_row(row: int) -> str:
            tar, offset, size = self._index.locate(row)
            if tar in states:
                return files.fingerprint([f"{states[tar]} {offset} {size}".encode()])
            try:
                return files.fingerprint([self._locations[tar].read(offset, size)])
            except BrokenFileError as error:
                return files.fingerprint([f"unreadable: {error}".encode()])

        rows = [self._rows[sample.id] for sample in self.samples]
        with ThreadPoolExecutor() as pool:
            return list(pool.map(fingerprint_row, rows, chunksize=64))

    def settings(self) -> Settings:
        """Return the settings for the records, including the source of the labels."""
        return {**super().settings(), "tars": len(self._locations), "label_key": self.label_key}


@dataclass(frozen=True)
class SampleMember:
    """A member of a tar with annotations of its sample.

    Attributes:
        sample: the key of its sample, prefixed by the tar.
        name: its name in messages.
        suffix: the suffix of its name: ``cls``, ``json``, ``txt``, ...
    """

    sample: str
    name: str
    suffix: str
    _source: TarReader
    _entry: Entry

    def read(self) -> bytes:
        """Return its content; possible only while its tar is being listed."""
        return self._source.read(self._entry.info)


MemberCallback: TypeAlias = Callable[[SampleMember], None]


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

    def locate(self, row: int) -> tuple[str, int, int]:
        """Return the tar of an image, and its offset and size in bytes."""
        return self.tars[int(self.tar[row])], int(self.offset[row]), int(self.size[row])


def list_tars(tars: TarFiles, on_member: MemberCallback | None = None) -> TarIndex:
    """List the images of tars.

    Raises:
        BrokenFileError: a damaged or truncated tar.
    """
    ids: list[str] = []
    keys: list[str] = []
    unreadable = 0
    omission = ""
    rows: list[tuple[int, int, int]] = []
    with progress("Index", len(tars.locations)) as advance:
        for number, (name, location) in enumerate(tars.locations.items()):
            with open_tar(location, name) as source:
                for entry in source.entries():
                    key = f"{name}/{entry.key}"
                    if entry.is_image:
                        ids.append(f"{name}/{entry.info.name}")
                        keys.append(key)
                        rows.append((number, entry.info.offset_data, entry.info.size))
                    elif (reason := entry.image_fault) is not None:
                        unreadable += 1
                        omission = omission or f"{name}/{entry.title}: {reason}"
                    elif on_member is not None and _is_small(entry):
                        title = f"{name}/{entry.title}"
                        on_member(SampleMember(key, title, entry.suffix, source, entry))
            advance(note=name)
    if unreadable > 1:
        omission += f"; and {unreadable - 1:,} more"
    omissions = [omission] if omission else []
    tar, offset, size = np.array(rows, np.int64).reshape(-1, 3).T
    return TarIndex(
        ids, keys, list(tars.locations), tar.copy(), offset.copy(), size.copy(), omissions
    )


def _is_small(entry: Entry) -> bool:
    return entry.fault is None and entry.info.isreg() and entry.info.size <= _MAX_MEMBER_BYTES


def read_object(data: bytes, name: str) -> Mapping[str, Any]:
    """Return the object in a sample's JSON.

    Raises:
        BrokenFileError: it is not a JSON object.
    """
    with convert_errors(name, "not valid JSON", find_fault=find_json_fault):
        value = json.loads(data)
    if not isinstance(value, dict):
        raise BrokenFileError(f"{name}: expected a JSON object, got a {type(value).__name__}.")
    return value


class _LabelCandidates:
    """Candidate labels in the samples of tars."""

    def __init__(self, reader: LabelReader) -> None:
        self._reader = reader
        self._from_member: dict[str, str] = {}
        self._from_json: dict[str, dict[str, Any]] = {}
        self._json_fields: dict[str, None] = {}
        self.key: str | None = None

    def add(self, member: SampleMember) -> None:
        """Add the candidates of one member."""
        if member.suffix == (self._reader.key or LABEL_MEMBER):
            with convert_errors(member.name, "expected a label as UTF-8 text"):
                self._from_member[member.sample] = member.read().decode("utf-8-sig")
        elif member.suffix == "json":
            value = read_object(member.read(), member.name)
            self._json_fields.update(dict.fromkeys(value))
            self._from_json[member.sample] = {
                field: value[field] for field in self._label_fields if field in value
            }

    @property
    def _label_fields(self) -> tuple[str, ...]:
        return LABEL_FIELDS if self._reader.key is None else (self._reader.key,)

    def find_labels(self, title: str, index: TarIndex) -> list[int] | None:
        """Return the class of each image, in order; None without labels."""
        by_sample = self._choose_labels(title)
        if not by_sample:
            if self._reader.labeled or self._reader.key is not None or self._from_json:
                raise LabelError(self._explain_no_labels(title))
            return None
        unlabeled = [
            image
            for image, sample in zip(index.ids, index.keys, strict=True)
            if sample not in by_sample
        ]
        if unlabeled:
            raise LabelError(
                f"{title}: {len(unlabeled)} of {pluralize(len(index.ids), 'image')} have no {self.key} "
                f"(first: {unlabeled[0]}); expected a label of all, or measure without labels "
                "(--unlabeled, labeled=False)."
            )
        classes: dict[str, int] = {}
        labels = []
        for image, sample in zip(index.ids, index.keys, strict=True):
            where = f"{image}, {self.key}"
            text = check_label(by_sample[sample], where)
            if text not in classes:
                classes[text] = self._reader.find_class(text, where)
            labels.append(classes[text])
        return labels

    def _choose_labels(self, title: str) -> Mapping[str, Any]:
        """Return the labels by sample, of the member or of the field that has them."""
        if self._from_member:
            self.key = self._reader.key or LABEL_MEMBER
            return self._from_member
        fields = {field for values in self._from_json.values() for field in values}
        self.key = choose_key(fields, self._label_fields, title)
        if self.key is None:
            return {}
        return {
            sample: values[self.key]
            for sample, values in self._from_json.items()
            if self.key in values
        }

    def _explain_no_labels(self, title: str) -> str:
        key = self._reader.key
        expected = (
            f"a member .{key} or a field {key}"
            if key
            else f"a member .{LABEL_MEMBER}, or a field {', '.join(LABEL_FIELDS)} in its JSON"
        )
        fields = f"; the JSON has {shorten(self._json_fields)}" if self._json_fields else ""
        return (
            f"{title}: no sample has {expected}{fields}. Say what states the label (--label-key), or "
            "measure without labels (--unlabeled, labeled=False)."
        )
