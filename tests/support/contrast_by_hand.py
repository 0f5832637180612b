"""The contrastive losses by the formulas of their papers, anchor by anchor, in float64 numpy."""

import numpy as np


def distance(a, b, matrix, temperature):
    difference = np.asarray(a - b, np.float64)
    return 0.5 * difference @ matrix @ difference / temperature


def loss(
    u, v, *, temperature=1.0, precision=None, negatives="both", sphere=True, symmetric=True,
    more=None, labels=None, hardness=0.0,
):  # fmt: skip
    u, v = (np.asarray(view, np.float64) for view in (u, v))
    more = None if more is None else np.asarray(more, np.float64)
    if sphere:
        u, v = (view / np.linalg.norm(view, axis=1, keepdims=True) for view in (u, v))
        more = None if more is None else more / np.linalg.norm(more, axis=-1, keepdims=True)
    count, dim = u.shape
    matrix = np.eye(dim) if precision is None else np.asarray(precision, np.float64)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
    terms = []
    for mine, other in ((u, v), (v, u))[: 2 if symmetric else 1]:
        for i in range(count):
            far = [] if more is None else list(more if more.ndim == 2 else more[i])
            if labels is not None:
                shown = [(labels[j], other[j]) for j in range(count)]
                if negatives == "both":
                    shown += [(labels[j], mine[j]) for j in range(count) if j != i]
                near = [
                    distance(mine[i], x, matrix, temperature) for k, x in shown if k == labels[i]
                ]
                everyone = [x for _, x in shown] + far
                sums = np.sum(
                    [np.exp(-distance(mine[i], x, matrix, temperature)) for x in everyone]
                )
                terms.append(np.mean(near) + np.log(sums))
                continue
            if negatives != "none":
                far += [other[j] for j in range(count) if j != i]
            if negatives == "both":
                far += [mine[j] for j in range(count) if j != i]
            positive = np.exp(-distance(mine[i], other[i], matrix, temperature))
            weights = np.array([np.exp(-distance(mine[i], x, matrix, temperature)) for x in far])
            importance = weights**hardness
            total = np.sum(importance * weights) / np.mean(importance)
            terms.append(-np.log(positive / (positive + total)))
    return float(np.mean(terms))
