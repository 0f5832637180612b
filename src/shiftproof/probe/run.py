"""Probing encoders: change images by known factors, and predict these from the vectors."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from shiftproof.bench.arguments import check_at_least_one, choose_workers
from shiftproof.compute.progress import Advance, progress
from shiftproof.data import ImageData, open_data
from shiftproof.errors import InputError
from shiftproof.io.folder_locks import releases_locks
from shiftproof.models import EncoderLike, load_encoder
from shiftproof.models.encoders.load import check_encoder
from shiftproof.models.loading import collect_assumed
from shiftproof.models.preprocess import group_by_geometry
from shiftproof.probe import embedding, mlp
from shiftproof.probe.controls import Pixels, randomize_weights
from shiftproof.probe.factors import Family, choose_factors, draw_values, find_families
from shiftproof.probe.readout import FOLDS, assign_folds, read_out
from shiftproof.probe.records import Readings, write_readings
from shiftproof.probe.strips import save_strips
from shiftproof.probe.summary import Column, summarize
from shiftproof.probe.versions import UNCHANGED, Versions
from shiftproof.provenance import provenance
from shiftproof.rng import generator
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.info import normalize_settings
from shiftproof.runs.run import ProbeRun
from shiftproof.runs.scores.probe import Factor, ProbeImages
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.scores.shared import BrokenImage
from shiftproof.shards import (
    Arrays,
    Backend,
    FileParts,
    Ray,
    Scheduled,
    check_finished,
    fill_parts,
    pack_files,
)
from shiftproof.shards.access import make_access_error
from shiftproof.types import F64, Cell, Image, Sample, Settings

EncoderOrName: TypeAlias = EncoderLike | str

KIND = "probe"

WHAT = "Probe"

MIN_IMAGES = 2 * FOLDS
"""With fewer images a fold would be a single image."""

MIN_DEVIATION = 1e-3
"""Relative to a feature's deviation over unchanged images; smaller changes count as 0."""


@releases_locks
def probe(
    encoders: EncoderOrName | Sequence[EncoderOrName] | Mapping[str, EncoderOrName],
    data: ImageData | str | Path,
    *,
    out: str | Path,
    factors: Sequence[str] | str = "all",
    versions: int = 4,
    images: int = 200,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> ProbeRun:
    """Measure which factors of variation encoders encode, and which they have collapsed.

    Each image is changed by each factor, ``versions`` times with values sampled over its range. The
    value is then predicted from the difference between the vectors of the changed and the unchanged
    image, by ridge regression and by a small network; and, as "alone", by ridge regression from the
    changed image's vector only. Probes are scored by cross-validation over images. Baselines are
    the pixels of a downscaled image, and the same architecture with random weights.

    Args:
        encoders: one or several encoders, specs for ``load_encoder`` (whose vectors are then not
            normalized), or a mapping from names. The others are compared with the first.
        data: a dataset, or a source for ``open_data``: a folder, a CSV, "demo". Labels are not
            used.
        out: the folder of the run; an interrupted run is resumed.
        factors: names of factors, or of sets of factors: "all", "augmentations", "corruptions",
            "geometry", "color", "texture", "weather".
        versions: number of versions of each image under each factor, 2 or more; a binary factor is
            set in half of them.
        images: maximum number of images, drawn with ``seed``.
        batch_size: images per batch of an encoder.
        seed: random seed.
        device: device of encoders that are given as specs.
        workers: processes that read and change images; 0 uses this process.
        backend: distribution of the families over :class:`~shiftproof.shards.Scheduled` or
            :class:`~shiftproof.shards.Ray`; None runs everything in this process.
        show_progress: None shows it on a terminal only.

    Returns:
        The run, whose ``scores`` are those of ``scores.json``.

    Raises:
        InputError: fewer than ``MIN_IMAGES`` readable images, or another invalid argument.
        UnknownNameError: no such factor, or no such encoder.
        ModelError: an encoder returns vectors that are not finite, or the same vector for all
            images.
        UnfinishedError: this worker's share is done, but not all the others'.
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    job = _plan(encoders, data, factors, versions, images, batch_size, seed, device)
    first = next(iter(job.encoders.values()))
    where = str(first.settings.get("device", "cpu"))
    workers = choose_workers(where) if workers is None else workers
    folder = RunFolder.create(
        Path(out),
        KIND,
        _collect_settings(job, images),
        {"assumed": collect_assumed(job.encoders), "provenance": provenance(where, workers)},
        shared=isinstance(backend, Scheduled),
    )
    work = _Work(folder, job, workers)
    _fill_all(work, backend, show_progress)
    scores = summarize(folder, work.probed, job.wanted, work.count_images())
    write_form(folder.scores_file, scores)
    save_strips(folder, work.make_versions(first), job.wanted, work.samples)
    folder.drop_cache()
    return ProbeRun(folder.path)


@dataclass(frozen=True, eq=False)
class _Job:
    """Everything that a machine of a cluster needs to probe a family."""

    data: ImageData
    encoders: Mapping[str, EncoderLike]
    samples: Sequence[Sample]
    wanted: Sequence[Factor]
    versions: int
    seed: int
    batch_size: int

    @property
    def families(self) -> Sequence[Family]:
        """The families of the wanted factors."""
        return find_families(self.wanted)


def _plan(
    encoders: EncoderOrName | Sequence[EncoderOrName] | Mapping[str, EncoderOrName],
    data: ImageData | str | Path,
    factors: Sequence[str] | str,
    versions: int,
    images: int,
    batch_size: int,
    seed: int,
    device: str,
) -> _Job:
    """Check the arguments of ``probe``, load encoders and data, and draw the images."""
    wanted = choose_factors(factors)
    if isinstance(versions, bool) or not isinstance(versions, int) or versions < 2:
        raise InputError(f"Expected versions of 2 or more, got {versions!r}.")
    check_at_least_one("images", images)
    check_at_least_one("batch_size", batch_size)
    dataset = data if isinstance(data, ImageData) else open_data(data, classes=None)
    check_enough(dataset, images)
    samples = _draw_samples(dataset, images, seed)
    named = _name_encoders(encoders, device)
    return _Job(dataset, named, samples, wanted, versions, seed, batch_size)


def check_enough(data: ImageData, images: int) -> None:
    """Refuse too few images to fit and score probes, before an encoder is loaded.

    Args:
        data: the images.
        images: maximum number of sampled images.

    Raises:
        InputError: too few images.
    """
    count = min(len(data), images)
    if count < MIN_IMAGES:
        raise InputError(_describe_too_few(count, "images"))


def _collect_settings(job: _Job, images: int) -> Settings:
    """Return the settings that determine a run's scores."""
    return normalize_settings(
        {
            "encoders": {name: encoder.settings for name, encoder in job.encoders.items()},
            "data": job.data.settings(),
            "factors": [factor.name for factor in job.wanted],
            "versions": job.versions,
            "images_at_most": images,
            "folds": FOLDS,
            "network": importlib.util.find_spec("torch") is not None,
            "seed": job.seed,
        }
    )


def _fill_all(work: _Work, backend: Backend | None, show_progress: bool | None) -> None:
    """Write the records of this process's families, after those from a cluster."""
    job, families = work.job, work.job.families
    steps = len(job.samples) * (1 + len(families) * len(work.groups)) + len(job.wanted)
    with progress("Probe", steps, show=show_progress) as advance:
        work.prepare(advance)
        if backend is None:
            work.fill(families, advance)
            return
        parts = work.parts()
        if isinstance(backend, Ray):
            fill_parts(WHAT, _make_readings, job, parts, backend, show=False)
        work.fill([families[number] for number in backend.share(range(len(families)))], advance)
        check_finished(WHAT, parts, backend)


def _make_readings(job: _Job, number: int) -> Arrays:
    """Return the record files of one family, computed on a cluster machine."""
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        folder = RunFolder(Path(scratch))
        work = _Work(folder, job, 0)
        with progress("Probe", 0, show=False) as advance:
            try:
                work.prepare(advance)
            except InputError as error:
                if work.broken:
                    raise make_access_error(
                        "the images", next(iter(work.broken.values()))
                    ) from error
                raise
            work.fill([job.families[number]], advance)
        folder.drop_cache()
        return pack_files(folder.path)


class _Work:
    """The job of one run with its folder, and the two passes over the images."""

    def __init__(self, folder: RunFolder, job: _Job, workers: int) -> None:
        self.folder = folder
        self.job = job
        self.samples = list(job.samples)
        self.broken: dict[str, str] = {}
        self.workers = workers
        self.store = embedding.Store(folder.cache / "vectors")
        self.probed = [Column(name, encoder.name) for name, encoder in job.encoders.items()]
        self.groups = group_by_geometry(job.encoders)

    def count_images(self) -> ProbeImages:
        """Return the numbers of images and of used images, and the unreadable ones."""
        return ProbeImages(
            total=len(self.job.data),
            used=len(self.samples),
            versions=self.job.versions,
            broken=tuple(
                BrokenImage(name, first_cell=UNCHANGED, reason=reason)
                for name, reason in self.broken.items()
            ),
        )

    def parts(self) -> FileParts:
        """Return the records of each family as a part, which any worker may compute."""
        inner = RunFolder(Path())
        names = [name for group in self.groups for name in group]
        return FileParts(
            self.folder.path,
            [
                [
                    inner.records_file(name, Cell(factor.name, 0)).as_posix()
                    for name in names
                    for factor in self._select_factors(family)
                ]
                for family in self.job.families
            ],
        )

    def _select_factors(self, family: Family) -> list[Factor]:
        return [factor for factor in family.factors if factor in self.job.wanted]

    def make_versions(self, encoder: EncoderLike) -> Versions:
        return Versions(
            self.job.data, encoder.preprocess.geometry, self.job.versions, self.job.seed
        )

    def prepare(self, advance: Advance) -> None:
        """Read the unchanged images, add the controls, and embed the images once as the reference."""
        for number, group in enumerate(self.groups):
            first = next(iter(group.values()))
            usable, images, broken = embedding.read_unchanged(
                self.make_versions(first),
                self.samples,
                workers=self.workers,
                done=lambda: advance(0 if number else 1, note=UNCHANGED),  # noqa: B023
            )
            self.broken.update(broken)
            if len(usable) < MIN_IMAGES:
                raise InputError(_describe_too_few(len(usable), "images that can be read"))
            if number and broken:
                # Images that one encoder's geometry refuses are dropped for all: restart with the
                # others.
                self.samples = usable
                return self._restart(advance)
            self.samples = usable
            embedding.check_images_differ(images)
            self._add_controls(group, images, pixels=number == 0)
            for name, encoder in group.items():
                self._embed_unchanged(name, encoder, images)
        return None

    def _restart(self, advance: Advance) -> None:
        self.probed = [one for one in self.probed if one.control is None]
        names = {one.name for one in self.probed}
        for group in self.groups:
            for name in [name for name in group if name not in names]:
                del group[name]
        self.prepare(advance)

    def _add_controls(
        self, group: dict[str, EncoderLike], images: Sequence[Image], *, pixels: bool
    ) -> None:
        for name, encoder in list(group.items()):
            randomized = randomize_weights(
                encoder, images, seed=self.job.seed, name=f"{name} with random weights"
            )
            if randomized is not None:
                group[f"{name}-random"] = randomized
                self.probed.append(Column(f"{name}-random", randomized.name, "random", name))
        if pixels:
            small = Pixels(next(iter(group.values())).preprocess)
            group[small.name] = small
            self.probed.append(Column(small.name, "16 × 16 pixels", "pixels"))

    def _embed_unchanged(self, name: str, encoder: EncoderLike, images: Sequence[Image]) -> None:
        embedding.embed_family(
            self.store,
            {name: encoder},
            UNCHANGED,
            self.samples,
            iter([[image] for image in images]),
            batch_size=self.job.batch_size,
            done=lambda: None,
        )
        embedding.check_vectors_differ(encoder.name, self.store.read(name, UNCHANGED))

    def fill(self, families: Sequence[Family], advance: Advance) -> None:
        """Embed and probe families without records."""
        for group in self.groups:
            pending = [
                family
                for family in families
                if not all(self._is_read(name, family) for name in group)
            ]
            unembedded = [
                family
                for family in pending
                if not all(self.store.has(name, family.name) for name in group)
            ]
            advance(len(self.samples) * (len(families) - len(unembedded)))
            loaded: Iterator[list[Image] | str] = embedding.load_versions(
                self.make_versions(next(iter(group.values()))),
                [family.name for family in unembedded],
                self.samples,
                workers=self.workers,
            )
            for family in pending:
                if family in unembedded:
                    embedding.embed_family(
                        self.store,
                        group,
                        family.name,
                        self.samples,
                        loaded,
                        batch_size=self.job.batch_size,
                        done=lambda: advance(1, note=family.name),  # noqa: B023
                    )
                for factor in self._select_factors(family):
                    for name in group:
                        self._read(name, family, factor)
        advance(len(self.job.wanted))

    def _is_read(self, name: str, family: Family) -> bool:
        return all(
            self.folder.has(name, Cell(factor.name, 0)) for factor in self._select_factors(family)
        )

    def _read(self, name: str, family: Family, factor: Factor) -> None:
        """Predict one factor from one model's vectors, and write the record."""
        cell = Cell(factor.name, 0)
        if self.folder.has(name, cell):
            return
        vectors = self.store.read(name, family.name).astype(np.float64)
        unchanged = self.store.read(name, UNCHANGED).astype(np.float64)
        place, seed = family.factors.index(factor), self.job.seed
        values = np.stack(
            [
                draw_values(family, sample.id, versions=self.job.versions, seed=seed)[:, place]
                for sample in self.samples
            ]
        )
        folds = assign_folds(len(self.samples), seed=seed)
        # A version without the change is closer to the unchanged image than one with it, for any
        # encoder; relative to the mean of both halves there is no such cue.
        base = vectors.mean(axis=1, keepdims=True) if factor.binary else unchanged
        change, min_deviation = vectors - base, MIN_DEVIATION * unchanged[:, 0].std(axis=0)
        read: dict[str, F64] = {
            "beside": read_out(change, values, folds, min_deviation=min_deviation),
            "alone": read_out(vectors, values, folds),
        }
        if importlib.util.find_spec("torch") is not None:
            read["network"] = mlp.read_out_by_network(
                change, vectors, values, folds, min_deviation=min_deviation, seed=seed
            )
        ids = tuple(sample.id for sample in self.samples)
        write_readings(self.folder.records_file(name, cell), Readings(ids, folds, values, read))


def _name_encoders(
    encoders: EncoderOrName | Sequence[EncoderOrName] | Mapping[str, EncoderOrName], device: str
) -> dict[str, EncoderLike]:
    """Return encoders by valid folder names."""
    if isinstance(encoders, Mapping):
        pairs: list[tuple[str | None, EncoderOrName]] = list(encoders.items())
    elif isinstance(encoders, Sequence) and not isinstance(encoders, str):
        pairs = [(None, one) for one in encoders]
    else:
        pairs = [(None, encoders)]
    if not pairs:
        raise InputError("Expected at least one encoder, got none.")
    for _, one in pairs:
        if isinstance(one, str):
            check_encoder(one)
    named: dict[str, EncoderLike] = {}
    for name_or_none, one in pairs:
        encoder = load_encoder(one, device=device, normalize=False) if isinstance(one, str) else one
        name = re.sub(r"[^\w.+-]+", "-", name_or_none or encoder.name).strip("-.") or "encoder"
        if name in named or name == Pixels.name or name.endswith("-random"):
            raise InputError(
                f"Two models of the run would be called {name!r}; give the encoders names of a "
                "mapping."
            )
        named[name] = encoder
    return named


def _draw_samples(data: ImageData, images: int, seed: int) -> list[Sample]:
    if len(data) <= images:
        return list(data.samples)
    order = generator(seed, "probe images", str(len(data))).permutation(len(data))[:images]
    return [data.samples[row] for row in sorted(order.tolist())]


def _describe_too_few(count: int, what: str) -> str:
    return (
        f"Expected {MIN_IMAGES} {what} or more, got {count}: probes are fitted on some images and "
        "scored on others. A hundred or more give intervals worth reading."
    )
