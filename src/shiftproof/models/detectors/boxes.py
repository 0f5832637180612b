"""Non-maximum suppression, and masks as run lengths."""

from __future__ import annotations

import numpy as np

from shiftproof.types import F32, I64, Flags, Indices, Mask


def suppress_overlaps(
    boxes: F32,
    scores: F32,
    labels: I64,
    *,
    overlap: float,
    limit: int | None = None,
) -> Indices:
    """Return the boxes that greedy non-maximum suppression keeps, separately for each class.

    In order of decreasing score (ties in input order), a box is kept unless it overlaps a kept box
    of its class by more than ``overlap``.

    Args:
        boxes: ``(N, 4)`` float32, x1, y1, x2, y2.
        scores: ``(N,)`` float32.
        labels: ``(N,)`` int64.
        overlap: threshold of the intersection over union, 0..1.
        limit: maximum number of boxes; None keeps all.

    Returns:
        Indices in order of decreasing score.

    >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [1, 0, 10, 10]], np.float32)
    >>> scores, labels = np.array([0.5, 0.9, 0.7], np.float32), np.array([0, 0, 1])
    >>> suppress_overlaps(boxes, scores, labels, overlap=0.5).tolist()
    [1, 2]
    """
    # cv2.dnn.NMSBoxesBatched keeps the same boxes, but treats all boxes without area as duplicates,
    # and is slower for several thousand boxes.
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    area = (x2 - x1) * (y2 - y1)
    kinds = labels[order]
    standing = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    for best in range(len(order)):
        if not standing[best]:
            continue
        kept.append(best)
        if limit is not None and len(kept) >= limit:
            break
        rest = best + 1 + np.flatnonzero(standing[best + 1 :] & (kinds[best + 1 :] == kinds[best]))
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        # Multiplied instead of divided: the union of two boxes without area is 0.
        standing[rest[shared > overlap * (area[best] + area[rest] - shared)]] = False
    return order[kept]


def encode_mask(mask: Flags) -> Mask:
    """Return a ``(H, W)`` mask as COCO's uncompressed run-length code.

    The runs go down the columns, and the first counts pixels outside of the mask.

    >>> encode_mask(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": counts}
