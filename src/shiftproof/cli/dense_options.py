"""Options that ``detect`` and ``segment`` share: clean images for adapters, and images without labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shiftproof.cli.options import DATA_PANEL
from shiftproof.cli.printing import print_line
from shiftproof.counts import pluralize
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.bench.estimates.dense_estimates import DenseEstimate
    from shiftproof.data import DetectionData, SegmentationData


@dataclass(frozen=True)
class DenseOptions:
    """Options for further images, in addition to the measured ones."""

    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="FOLDER",
            help="Clean images, no labels needed, whose features --adapt actmad matches; without "
            "them batch norm's running statistics.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    unlabeled: Annotated[
        str | None,
        typer.Option(
            "--unlabeled",
            "--unlabelled",
            metavar="FOLDER",
            help="Images without labels: estimates the models' performance on them, fitted on up to 100 "
            "labeled ones of --data, and shows how far such estimates are off in the cells of this run.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None

    def complete(self, adapters: Sequence[str]) -> list[str]:
        """Return the specs of adapters, those of actmad with the clean images.

        Raises:
            InputError: no adapter takes them, or a spec cannot contain their path.
        """
        if self.calibrate is None:
            return list(adapters)
        if "," in self.calibrate:
            raise InputError(f"--calibrate {self.calibrate}: expected a path without commas.")
        completed = [_add_clean(spec, self.calibrate) for spec in adapters]
        if completed == list(adapters):
            raise InputError("--calibrate: no adapter takes clean images; add --adapt actmad.")
        return completed

    def check(self) -> None:
        """Refuse a missing folder, before any long work."""
        for option, path in (("--calibrate", self.calibrate), ("--unlabeled", self.unlabeled)):
            if path is not None and "://" not in path and not Path(path).exists():
                raise InputError(
                    f"{option} {path}: expected a folder of images, found nothing there."
                )

    def check_images(self) -> None:
        """Refuse images without labels that cannot be opened, before a model is loaded.

        Raises:
            InputError: no images.
        """
        from shiftproof.data.images.opening import check_data

        if self.unlabeled is not None:
            check_data(self.unlabeled, labeled=False)

    def estimate(
        self,
        models: Mapping[str, Any],
        labeled: DetectionData | SegmentationData,
        *,
        corruptions: Iterable[str],
        severities: Sequence[int],
        class_map: Mapping[str, str] | None,
        out: Path,
        as_json: bool,
    ) -> None:
        """Estimate all models on the images without labels, if given, and print the results."""
        if self.unlabeled is None:
            return
        from shiftproof.bench.estimates.dense_estimates import estimate_unlabeled, write_estimate
        from shiftproof.corruptions import CORRUPTIONS
        from shiftproof.runs.scores.unlabeled import FILE

        estimates = {
            name: estimate_unlabeled(
                model,
                labeled,
                self.unlabeled,
                corruptions=[name for name in corruptions if name in CORRUPTIONS],
                severities=severities,
                class_map=class_map,
            )
            for name, model in models.items()
        }
        write_estimate(out / FILE, estimates)
        if not as_json:
            for name, estimate in estimates.items():
                _show(name, estimate)
            print_line(f"unlabeled {out / FILE}")


def _add_clean(spec: str, folder: str) -> str:
    """Add the clean images to a spec of actmad without any; return other specs unchanged."""
    before, name, options = spec.rpartition("actmad")
    follows_nothing = before == "" or before.endswith("+")
    names_others = options != "" and not options.startswith(":")
    if not name or not follows_nothing or names_others or "clean=" in options:
        return spec
    return f"{before}{name}{options or ':'}{',' if options else ''}clean={folder}"


def _show(name: str, estimate: DenseEstimate) -> None:
    """Print an estimate, and the errors of such estimates in this run."""
    print_line(
        f"{name}: {estimate.measure} estimated on {pluralize(estimate.images, 'image')} without labels; "
        f"{100 * estimate.clean:.1f} % on {pluralize(estimate.labeled, 'clean labeled one')}"
    )
    for kind, value in estimate.estimates.items():
        quality = estimate.quality.get(kind)
        error = ""
        if quality is not None:
            worst = 100 * abs(quality.worst.estimate - quality.worst.error)
            error = (
                f"; off by {100 * quality.mean_absolute_error:.1f} points in the mean over "
                f"{pluralize(quality.cells, 'cell')} of this run, at most {worst:.1f} ({quality.worst.cell})"
            )
        print_line(f"  by {kind}: {100 * value:.1f} %{error}")
