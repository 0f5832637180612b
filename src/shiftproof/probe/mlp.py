"""Nonlinear readout: predicting values from vectors by a small network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shiftproof.probe.readout import compute_scale
from shiftproof.types import F64, I64, Flags

if TYPE_CHECKING:
    import torch

WIDTH = 48
STEPS = 100
RATE = 0.02
DECAY = 1e-3
MAX_COMPONENTS = 32

_CHECK_EVERY = 5
"""Steps between two evaluations for early stopping."""


def read_out_by_network(
    features: F64,
    more_features: F64,
    values: F64,
    folds: I64,
    *,
    min_deviation: F64 | float = 0.0,
    seed: int = 0,
) -> F64:
    """Return cross-validated predictions of a network with one hidden layer.

    Its inputs are the leading principal components of both kinds of features. For each fold, the
    next fold is for early stopping, and the others for training; the networks of all folds train in
    parallel. It is initialized to predict the mean, so that training on uninformative features
    stops there.

    Args:
        features: ``(N, V, D)``, V versions of N images.
        more_features: ``(N, V, D)``, further features of the same versions.
        values: ``(N, V)``.
        folds: ``(N,)``, at least three different ones.
        min_deviation: as for ``readout.read_out``, for ``features``.
        seed: random seed of the initial weights.

    Returns:
        ``(N, V)``.
    """
    import torch

    numbers = np.unique(folds).tolist()
    versions = values.shape[1]
    fold_of_row = np.repeat(folds, versions)
    flat = values.reshape(-1)
    inputs, targets, trains, stops, tests = [], [], [], [], []
    for place, number in enumerate(numbers):
        test, stop = fold_of_row == number, fold_of_row == numbers[(place + 1) % len(numbers)]
        train = ~(test | stop)
        inputs.append(
            np.concatenate(
                [
                    _compute_components(
                        features.reshape(-1, features.shape[2]), train, min_deviation
                    ),
                    _compute_components(
                        more_features.reshape(-1, more_features.shape[2]), train, 0.0
                    ),
                ],
                axis=1,
            )
        )
        center, deviation = flat[train].mean(), flat[train].std() or 1.0
        targets.append(np.stack([flat, np.full_like(flat, center), np.full_like(flat, deviation)]))
        trains.append(train)
        stops.append(stop)
        tests.append(test)
    width = max(one.shape[1] for one in inputs)
    x = torch.tensor(
        np.stack([np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in inputs]),
        dtype=torch.float32,
    )
    truth = torch.tensor(
        np.stack([(one[0] - one[1]) / one[2] for one in targets]), dtype=torch.float32
    )
    read = _train(x, truth, torch.tensor(np.stack(trains)), torch.tensor(np.stack(stops)), seed)
    found = np.empty_like(flat)
    for place, test in enumerate(tests):
        _, center, deviation = targets[place]
        found[test] = (read[place] * deviation + center)[test]
    return found.reshape(values.shape)


def _compute_components(flat: F64, train: Flags, min_deviation: F64 | float) -> F64:
    """Return ``(R, C)`` leading components of standardized features, scaled to a mean square of
    1.
    """
    fitted = flat[train]
    scale = compute_scale(fitted, min_deviation)
    center = fitted.mean(axis=0)
    standard = (flat - center) / scale
    gram = standard[train] @ standard[train].T
    eigenvalues, vectors = np.linalg.eigh(gram)
    count = max(1, min(MAX_COMPONENTS, int(train.sum()) // 3, standard.shape[1]))
    values = np.maximum(eigenvalues[::-1][:count], 0)
    lengths = np.sqrt(values)
    usable = lengths > 1e-6 * max(float(lengths[0]), 1.0)
    if not usable.any():
        return np.zeros((len(flat), 1))
    axes = standard[train].T @ vectors[:, ::-1][:, :count][:, usable] / lengths[usable]
    components = standard @ axes
    # At least 1: a feature that varies less than ``min_deviation`` is not scaled up.
    mean_square = values[usable].sum() / (train.sum() * usable.sum())
    return np.asarray(components / np.sqrt(max(float(mean_square), 1.0)))


def _train(
    x: torch.Tensor, truth: torch.Tensor, train: torch.Tensor, stop: torch.Tensor, seed: int
) -> F64:
    """Return ``(F, R)``: predictions of each fold's network at its best step on the stopping
    rows.
    """
    import torch

    folds, _, inputs = x.shape
    random = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        first = torch.randn(folds, inputs, WIDTH, generator=random, dtype=torch.float32)
        first /= inputs**0.5
        weights = [
            first.requires_grad_(),
            torch.zeros(folds, 1, WIDTH, dtype=torch.float32, requires_grad=True),
            torch.zeros(folds, WIDTH, 1, dtype=torch.float32, requires_grad=True),
            torch.zeros(folds, 1, 1, dtype=torch.float32, requires_grad=True),
        ]
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
        best = torch.full((folds,), float("inf"), dtype=torch.float32)
        kept = torch.zeros_like(truth)
        for step in range(STEPS + 1):
            hidden = torch.relu(torch.baddbmm(weights[1], x, weights[0]))
            read = torch.baddbmm(weights[3], hidden, weights[2]).squeeze(2)
            squared = (read - truth) ** 2
            if step % _CHECK_EVERY == 0:
                error = (squared.detach() * stop).sum(1) / stop.sum(1)
                better = error < best
                best = torch.where(better, error, best)
                kept = torch.where(better[:, None], read.detach(), kept)
            optimizer.zero_grad()
            loss: Any = ((squared * train).sum(1) / train.sum(1)).sum()
            loss.backward()
            optimizer.step()
    return np.asarray(kept.double().numpy())
