"""All adaptation methods under all protocols, on networks with three kinds of norm and a CLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shiftproof import Classifier
from shiftproof import bench as benchmark
from shiftproof.adapt import make_adapter
from shiftproof.compute.progress import console, progress
from shiftproof.corruptions import corrupt, scale
from shiftproof.data import CorruptedArrays
from shiftproof.io import atomic, make_folder, read_json, write_json
from shiftproof.runs import provenance
from shiftproof.types import CLEAN, Settings
from shiftproof_reproduce.adaptation_plan import SOURCE, Method, Plan, Stream
from shiftproof_reproduce.adaptation_sources import (
    NET_TITLES,
    Source,
    open_network,
    open_source,
)
from shiftproof_reproduce.adaptation_tables import ComparisonRuns, Place, make_findings, make_tables
from shiftproof_reproduce.formatting import list_corruptions
from shiftproof_reproduce.measured import Measured
from shiftproof_reproduce.result import Result, to_json
from shiftproof_reproduce.seconds import Seconds
from shiftproof_reproduce.small import SCALE

ABOUT_FILE = "images.json"
"""File that describes a folder of corrupted images."""


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train the networks, measure every method under every protocol, and return the results.

    Resumes an interrupted experiment in ``out``: trainings by epoch, runs by cell. Each run has one
    method and one protocol, so that methods can be added later.

    Arguments as for ``shiftproof_reproduce.reproduce``, and ``plan``: the size of the experiment.

    Raises:
        InputError: Fashion-MNIST or fonts are missing.
        MissingExtraError: open_clip is not installed.
        RunError: the clean error of a network is too high.
    """
    plan = plan or Plan()
    comparison = Comparison(out, plan, data, show_progress)
    comparison.measure()
    return comparison.make_result()


@dataclass(eq=False)
class Comparison:
    """The whole comparison in a folder.

    Attributes:
        out: the folder.
        plan: the size of the experiment.
        fashion: the folder of Fashion-MNIST; None for that of the Debian package.
        show_progress: None shows it on a terminal only.
        found: the finished runs, by place, stream and method.
        chosen: the best setting on the hold-out, by place and method.
        clean: the clean errors of the networks.
    """

    out: Path
    plan: Plan
    fashion: str | Path | None
    show_progress: bool | None
    found: dict[tuple[Place, str, str], Measured] = field(default_factory=dict)
    chosen: dict[tuple[Place, str], str] = field(default_factory=dict)
    clean: dict[Place, float] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seconds = Seconds(make_folder(self.out))

    def measure(self) -> None:
        """Measure all runs, or read finished ones."""
        for data in self.plan.data:
            with self.seconds.count(f"images of {data}"):
                source = open_source(data, self.fashion, self.plan.training)
                self.prints[data] = source.fingerprint()
                images = self._corrupt(source)
            for net in self.plan.list_nets(data):
                place = Place(data, net)
                with self.seconds.count(f"training, {data}, {net}"):
                    classifier, self.clean[place] = open_network(
                        net,
                        source,
                        self.out / "networks" / f"{data}-{net}",
                        self.plan.training,
                        good_enough=self.plan.good_enough[data],
                        show_progress=self.show_progress,
                    )
                with self.seconds.count(f"methods, {data}, {net}"):
                    self._measure_place(place, classifier, images)

    def _measure_place(self, place: Place, classifier: Classifier, images: Path) -> None:
        methods = self.plan.list_methods(place.net)
        for method in methods:
            self.chosen[place, method.name] = self._choose(place, classifier, images, method)
        for stream in self.plan.streams:
            if self.show_progress is not False:
                console.print(f"{place.data}, {place.net}, {stream.title}")
            self.found[place, stream.name, SOURCE] = self._run(
                place, classifier, images, stream, SOURCE, None
            )
            for method in methods:
                if self.plan.is_measured(method, stream):
                    tried = self.chosen[place, method.name]
                    self.found[place, stream.name, method.name] = self._run(
                        place, classifier, images, stream, method.name,
                        method.fill(tried, batch=stream.batch, usual=self.plan.streams[0].batch),
                    )  # fmt: skip

    def _choose(self, place: Place, classifier: Classifier, images: Path, method: Method) -> str:
        """Return the setting with the lowest error on the hold-out, ties to the first."""
        stream = self.plan.streams[-1 if method.alone else 0]
        errors = {}
        for tried in method.tries:
            spec = method.fill(tried, batch=stream.batch, usual=self.plan.streams[0].batch)
            run = self._run(
                place, classifier, images, stream, f"{method.name}={tried}", spec, holdout=True
            )
            errors[tried] = run.error(method.name).value
        return min(errors, key=errors.__getitem__)

    def _run(
        self,
        place: Place,
        classifier: Classifier,
        images: Path,
        stream: Stream,
        folder: str,
        spec: str | None,
        *,
        holdout: bool = False,
    ) -> Measured:
        """Measure one method under one protocol, or read the finished run."""
        name = folder.partition("=")[0]
        model = classifier if spec is None else make_adapter(spec, classifier)
        run = benchmark.run(
            {name: model},
            CorruptedArrays(images, classifier.classes),
            corruptions=self.plan.holdout if holdout else self.plan.corruptions,
            severities=(1,),
            images=min(self.plan.holdout_images, stream.images) if holdout else stream.images,
            out=self.out / "runs" / f"{place.data}-{place.net}"
            / ("holdout" if holdout else stream.name) / folder,
            batch_size=stream.batch,
            protocol=stream.protocol,
            workers=0,
            show_progress=False,
        )  # fmt: skip
        return Measured(run)

    def _corrupt(self, source: Source) -> Path:
        """Write the corrupted test images in the layout of MNIST-C, once for all networks."""
        plan = self.plan
        folder = make_folder(self.out / "images" / source.name)
        about = {
            "data": source.fingerprint(), "severity": plan.severity, "scale": SCALE,
            "corruptions": [*plan.corruptions, *plan.holdout],
            "images": max(stream.images for stream in plan.streams),
        }  # fmt: skip
        if (folder / ABOUT_FILE).is_file() and read_json(folder / ABOUT_FILE) == about:
            return folder
        for name, images in _corrupt_each(source, plan, self.show_progress):
            labels = source.draw_test(len(images))
            _write(folder / name / "test_images.npy", images)
            _write(
                folder / name / "test_labels.npy",
                np.array([sample.label for sample in labels.samples], np.int64),
            )
        write_json(folder / ABOUT_FILE, about)
        return folder

    # ------------------------------------------------------------ the result

    def make_result(self) -> Result:
        """Return the result."""
        compared = ComparisonRuns(self.plan, self.found)
        plan = to_json(dataclasses.replace(self.plan, methods=(), left_out={}))
        plan["left_out"] = {f"{data}-{net}": why for (data, net), why in self.plan.left_out.items()}
        del plan["methods"]
        return Result(
            recipe="adaptation-methods",
            scale="small",
            title="Adaptation methods, protocol by protocol",
            about=(
                "Small networks are trained from scratch on Fashion-MNIST and on glyphs (letters of "
                "eight scripts in tints and fonts, the test images in fonts of their own) and shown "
                f"the {len(self.plan.corruptions)} corruptions at severity {self.plan.severity}. Of "
                "each method the same number of settings was tried on the hold-out corruptions "
                f"({list_corruptions(self.plan.holdout)}), and the best one taken for all protocols."
                f"{_describe_left_out(self.plan)}"
            ),
            settings={
                "data": dict(self.prints),
                "clean_errors": _key_by_place(self.clean),
                "corruptions": SCALE,
                "plan": plan,
                "methods": to_json(list(self.plan.methods)),
                "chosen": {
                    f"{place.data}-{place.net}/{method}": tried
                    for (place, method), tried in self.chosen.items()
                },
            },
            provenance=provenance("cpu", 0),
            tables=make_tables(compared),
            findings=make_findings(compared),
            seconds=self.seconds.spent,
        )


def _describe_left_out(plan: Plan) -> str:
    """Return sentences on which networks are not compared, and why."""
    return "".join(
        f" {NET_TITLES[net]}, is not compared on {data}: {why}."
        for (data, net), why in plan.left_out.items()
        if data in plan.data and net in plan.nets
    )


def _key_by_place(values: Mapping[Place, float]) -> Settings:
    return {f"{place.data}-{place.net}": value for place, value in values.items()}


def _corrupt_each(
    source: Source, plan: Plan, show_progress: bool | None
) -> Iterator[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    """Yield ``CLEAN`` and each corruption with its images ``(N, 32, 32, 3)``."""
    data = source.draw_test(max(stream.images for stream in plan.streams))
    functions = scale(SCALE)
    clean = [data.read(sample) for sample in data.samples]
    yield CLEAN.corruption, np.stack(clean)
    names: Sequence[str] = (*plan.corruptions, *plan.holdout)
    with progress(f"Images of {source.name}", len(names), show=show_progress) as advance:
        for name in names:
            pairs = zip(data.samples, clean, strict=True)
            yield (
                name,
                np.stack(
                    [
                        corrupt(image, functions[name], severity=plan.severity, key=sample.id)
                        for sample, image in pairs
                    ]
                ),
            )
            advance(1)


def _write(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    make_folder(path.parent)
    with atomic(path) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)
