"""Is it only train-test similarity? (Mayilvahanan et al. 2024, arXiv 2310.09562), on Fashion-MNIST.

The large training set is diverse like the web, the reference is narrow and clean, and only the
large set has images similar to the shifted test sets. Is a network trained on both better on these
because of such images? To find out, they are removed and the network is trained again.
"""

from __future__ import annotations

import time
from pathlib import Path

import loky
import numpy as np

from shiftproof.compute.progress import console
from shiftproof.corruptions import COMMON
from shiftproof.io import begin, make_folder
from shiftproof.runs import provenance
from shiftproof.similarity import gap, prove, prune, prune_to
from shiftproof.types import Settings
from shiftproof_reproduce import fashion
from shiftproof_reproduce.embedded_pieces import PieceFolder, embed_pieces
from shiftproof_reproduce.pruned_trainings import LARGE, REFERENCE, Task, train_all
from shiftproof_reproduce.result import Result, to_json
from shiftproof_reproduce.shifted_fashion import (
    STYLIZED,
    Piece,
    draw_test_piece,
    draw_training_pieces,
    read_labels,
)
from shiftproof_reproduce.train_test_plan import (
    ALL,
    ALONE,
    COMBINED,
    CONTROLS,
    GAP_MATCHED,
    RANDOM,
    Measured,
    Plan,
    SearchResults,
    name_training,
)
from shiftproof_reproduce.train_test_tables import INTERVALS, make_findings, make_tables


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Embed, measure similarities, prune, train on the remaining images, and return the results.

    Arguments as for ``shiftproof_reproduce.reproduce``, and ``plan``: the size of the experiment.

    Raises:
        InputError: Fashion-MNIST is missing.
        RunMismatchError: ``out`` belongs to other settings.
        MissingExtraError: the encoder is not installed (extra ``demo``).
    """
    plan = plan or Plan()
    read = fashion.load(data)
    settings = {
        "plan": to_json(plan),
        "data": {"name": "Fashion-MNIST", "fingerprint": read.fingerprint()},
    }
    run_settings: Settings = {"plan": plan.piece_settings, "data": settings["data"]}
    begin(make_folder(out) / "runs", "settings.json", run_settings, what="a run")
    begun = time.monotonic()
    used = loky.cpu_count() if workers is None else workers
    folder = None if data is None else Path(data)
    measured = measure(read, out / "runs", plan, folder, used, show_progress)
    made = provenance("cpu", used)
    made["wall_seconds"] = round(time.monotonic() - begun, 1)
    return Result(
        recipe="train-test-similarity",
        scale="small",
        title="Is it only train-test similarity? On Fashion-MNIST",
        about=describe_experiment(plan),
        settings=settings,
        provenance=made,
        tables=make_tables(measured, plan),
        findings=make_findings(measured, plan),
        seconds=measured.seconds,
        intervals=INTERVALS,
    )


def describe_experiment(plan: Plan) -> str:
    """Return a description of the experiment."""
    return (
        f"A large training set of {plan.large:,} images of Fashion-MNIST, {100 * plan.clean:g} % clean "
        f"and the rest shifted in one of {len(COMMON)} corruptions or a drawn style, and a reference of "
        f"{plan.reference:,} others, all clean: what LAION and ImageNet are to the paper. "
        f"EfficientNet-Lite0 at {plan.side} pixels embeds them and {plan.test:,} test images in "
        f"{len(plan.tests)} ways. From the large set is left out what is closer to some test image "
        "than the reference (gap-matched), or as many images: the most similar to the test set "
        "(near), the least similar (far), or any (random). A small ResNet is trained on what is left "
        f"and the reference, {plan.seen:,} images a training whatever there is, with "
        f"{len(plan.seeds)} seeds."
    )


def measure(
    read: fashion.FashionMNIST,
    folder: Path,
    plan: Plan,
    data: Path | None,
    workers: int,
    show_progress: bool | None,
) -> Measured:
    """Run the experiment, or resume it."""
    pieces = draw_pieces(read, plan)
    seconds = {}
    embedding = embed_pieces(
        pieces,
        folder,
        data=data,
        side=plan.side,
        seed=plan.seed,
        workers=workers,
        show_progress=show_progress,
    )
    seconds["images and embeddings"] = round(sum(embedding.values()), 1)
    begun = time.process_time()
    found = search(PieceFolder(folder), plan)
    seconds["similarity and pruning"] = round(time.process_time() - begun, 1)
    if show_progress is not False:
        console.print(f"pruned  [dim]{found.pruning.counts}[/]")
    task = Task(
        folder,
        plan.training,
        plan.seen,
        {name: read_labels(read, pieces[name]) for name in (LARGE, REFERENCE)},
        read_labels(read, pieces[plan.tests[0]]),
        plan.tests,
    )
    answers = train_all(task, found.kept, plan.seeds, workers=workers, show_progress=show_progress)
    spent = sum(each.seconds for repeated in answers.values() for each in repeated)
    seconds[f"{len(answers) * len(plan.seeds)} trainings"] = round(spent, 1)
    return Measured(found, answers, seconds)


def draw_pieces(read: fashion.FashionMNIST, plan: Plan) -> dict[str, Piece]:
    """Return the training and test sets, the largest first."""
    ways = (*COMMON, STYLIZED)
    pieces = draw_training_pieces(
        len(read.train_images),
        large=plan.large,
        reference=plan.reference,
        clean=plan.clean,
        ways=ways,
        seed=plan.seed,
    )
    for way in plan.tests:
        pieces[way] = draw_test_piece(
            len(read.test_images), plan.test, way, severity=plan.severity, seed=plan.seed
        )
    return pieces


def search(place: PieceFolder, plan: Plan) -> SearchResults:
    """Measure the gaps, prune by every rule, and verify the gap-matched pruning."""
    large, reference = place.vectors(LARGE), place.vectors(REFERENCE)
    tests = {name: place.vectors(name) for name in plan.tests}
    gaps = gap(large, tests, reference=reference, k=plan.neighbors)
    aimed = {name: tests[name] for name in plan.pruned}
    pruning = prune(large, aimed, reference=reference)
    proofs = prove(large, aimed, pruning)
    kept = {ALL: np.ones(len(large), bool), ALONE: np.zeros(len(large), bool)}
    targets = {**{name: {name: rows} for name, rows in aimed.items()}, COMBINED: aimed}
    for name, target in targets.items():
        rows = pruning.keep(*target)
        size = max(1, int(rows.sum()))
        kept[name_training(name, GAP_MATCHED)] = rows
        for rule in CONTROLS if name != COMBINED else (RANDOM,):
            kept[name_training(name, rule)] = prune_to(large, target, size, rule, seed=plan.seed)
    return SearchResults(gaps, pruning, proofs, kept)
