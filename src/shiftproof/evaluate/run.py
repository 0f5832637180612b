"""Evaluating every model on every test set, with resumable per-image records."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shiftproof.bench.arguments import check_at_least_one, check_readable, choose_workers
from shiftproof.bench.cells.filling import Workload
from shiftproof.bench.cells.sharing import FillJob, fill_shared
from shiftproof.bench.cells.stream import Episode, Visit
from shiftproof.bench.cells.views import OnTheFly
from shiftproof.bench.tasks.classification.recorder import ClassifierRecording
from shiftproof.bench.tasks.named_models import load_models
from shiftproof.counts import pluralize
from shiftproof.data import ImageData
from shiftproof.data.images.opening import check_data
from shiftproof.errors import LabelError
from shiftproof.evaluate.audited import read_audit
from shiftproof.evaluate.sets import OpenSet, open_sets, restrict
from shiftproof.evaluate.summary import summarize
from shiftproof.io.folder_locks import releases_locks
from shiftproof.models import ClassifierLike, load_classifier
from shiftproof.models.classifiers.load import check_classifier
from shiftproof.models.loading import collect_assumed
from shiftproof.models.preprocess import group_by_geometry
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.info import normalize_settings
from shiftproof.runs.run import EvaluationRun
from shiftproof.runs.scores.reading import write_form
from shiftproof.shards import Backend, Scheduled
from shiftproof.types import Cell

KIND = "evaluation"


@releases_locks
def evaluate(
    models: ClassifierLike | str | Mapping[str, ClassifierLike | str],
    data: Mapping[str, ImageData | str | Path],
    *,
    out: str | Path,
    labels: Mapping[str, str] | None = None,
    class_map: Mapping[str, str] | None = None,
    audit: str | Path | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    workers: int | None = None,
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> EvaluationRun:
    """Measure the accuracy of models on several test sets, together with an audit of their training
    set.

    With the six sets of Mayilvahanan et al. 2024 (arXiv 2310.09562) and zero-shot models this is
    the table of that paper. Test sets named after ImageNet-R, -A, -D or ObjectNet
    (:func:`find_labels`) are evaluated on their own classes only.

    Args:
        models: a classifier, a spec for ``load_classifier``, or a mapping from names to either; the
            others are compared with the first. All must have the same classes, but may have
            different image sizes.
        data: from name to test set, or to a source for ``open_data``.
        out: the folder of the run; an interrupted one resumes.
        labels: from name of a test set to a label set, overriding :func:`find_labels`; "all" for
            all classes of the models.
        class_map: from class folder to class, for folders with other names.
        audit: the folder of an audit of embeddings whose test sets have the same names.
        batch_size: images per forward pass.
        device: device of models that are given as specs.
        workers: processes that read and resize images; 0 uses this process.
        backend: distribution of the work, one part for each model on each test set:
            :class:`~shiftproof.shards.Scheduled` or :class:`~shiftproof.shards.Ray`; None runs
            everything in this process.
        show_progress: None shows it on a terminal only.

    Returns:
        The run, whose ``scores`` are those of ``scores.json``.

    Raises:
        InputError: an invalid argument; nothing is written.
        UnfinishedError: this worker's share is done, but not all the others'.
        LabelError: models with different classes, or folders that are not classes.
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    check_at_least_one("batch_size", batch_size)
    for source in data.values():
        if not isinstance(source, ImageData):
            check_data(source, class_map=class_map)
    named = _name_models(models, device, Path(out))
    sets = open_sets(data, labels or {}, named, class_map)
    if not RunFolder(Path(out)).run_file.is_file():
        for one in sets:
            check_readable(one.data)
    audited = None if audit is None else read_audit(Path(audit), [one.name for one in sets])
    restricted = {one.name: _restrict_all(named, one) for one in sets}
    where = str(next(iter(named.values())).settings.get("device", "cpu"))
    workers = choose_workers(where) if workers is None else workers
    settings = {
        "models": {name: model.settings for name, model in named.items()},
        "data": {one.name: _list_settings(one) for one in sets},
        "audit": None if audited is None else audited.fingerprint,
        "batch_size": batch_size,
    }
    about = {"assumed": collect_assumed(named), "provenance": provenance(where, workers)}
    folder = RunFolder.create(
        Path(out), KIND, normalize_settings(settings), about, shared=isinstance(backend, Scheduled)
    )
    _save_prompts(folder, named)
    workloads = [
        _make_workload(one, group)
        for one in sets
        for group in group_by_geometry(restricted[one.name])
    ]
    fill_shared(
        folder,
        FillJob(workloads, ClassifierRecording(), batch_size),
        backend,
        workers=workers,
        show_progress=show_progress,
    )
    titles = {name: model.name for name, model in named.items()}
    scores = summarize(folder, titles, sets, audited, show_progress=show_progress)
    write_form(folder.scores_file, scores)
    return EvaluationRun(folder.path)


def _name_models(
    models: ClassifierLike | str | Mapping[str, ClassifierLike | str], device: str, out: Path
) -> dict[str, ClassifierLike]:
    load = functools.partial(load_classifier, device=device, run_folder=out)
    named: dict[str, ClassifierLike] = load_models(
        models, load, check=check_classifier, noun="classifier", single="model"
    )
    first = next(iter(named.values()))
    for name, one in named.items():
        if one.classes.names != first.classes.names:
            if sorted(one.classes.names) == sorted(first.classes.names):
                raise LabelError(
                    f"{name} lists the classes of the first model in another order; evaluate them one by "
                    "one."
                )
            raise LabelError(
                f"{name} has {pluralize(len(one.classes), 'class')} ({one.classes.title}), the first "
                f"model "
                f"{len(first.classes)} ({first.classes.title}); evaluate them one by one."
            )
    return named


def _restrict_all(models: Mapping[str, ClassifierLike], one: OpenSet) -> dict[str, ClassifierLike]:
    return {name: restrict(model, one.labels) for name, model in models.items()}


def _list_settings(one: OpenSet) -> dict[str, object]:
    return {**one.data.settings(), "labels": None if one.labels is None else one.labels.title}


def _save_prompts(folder: RunFolder, models: Mapping[str, ClassifierLike]) -> None:
    for model in models.values():
        vectors = getattr(model, "class_vectors", None)
        if vectors is not None:
            vectors.save(folder.path)


def _make_workload(one: OpenSet, models: Mapping[str, ClassifierLike]) -> Workload:
    geometry = next(iter(models.values())).preprocess.geometry
    view = OnTheFly(one.data, geometry, {}, seed=0)
    return Workload(view, [_make_episode(one.name, len(one.data))], one.data.samples, models)


def _make_episode(name: str, count: int) -> Episode:
    """Return the stream of a test set: all images once, in their order."""
    visit = Visit(
        cells=(Cell(name, 0),),
        rows=np.arange(count, dtype=np.int32),
        cell_indices=np.zeros(count, dtype=np.int32),
        start=0,
        pass_index=0,
        recorded=True,
        ends_pass=True,
    )
    return Episode(name, (visit,), 1)
