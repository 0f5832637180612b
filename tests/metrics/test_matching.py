"""Matching the detections of one image with its objects: torchvision's overlaps, matches by hand."""

import numpy as np
import torch
from torchvision.ops import box_iou

from shiftproof.metrics.matching import Corners, compute_ious, match_by_score


def test_ious_are_those_of_torchvision():
    boxes = np.random.default_rng(0).uniform(1, 9, (20, 4))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    expected = box_iou(torch.from_numpy(corners[:10]), torch.from_numpy(corners[10:])).numpy()
    for make, values in ((Corners.from_positions, boxes), (Corners.from_corners, corners)):
        ious = compute_ious(make(values[:10]), make(values[10:]))
        np.testing.assert_allclose(ious, expected, atol=1e-12)


def test_empty_boxes_overlap_nothing():
    empty = Corners.from_positions(np.array([[1.0, 1, 0, 0]]))
    assert compute_ious(empty, empty).tolist() == [[0.0]]
    assert compute_ious(empty, Corners.from_positions(np.empty((0, 4)))).shape == (1, 0)


def test_objects_go_to_the_highest_scores_first():
    # The best detection takes the object with which it overlaps most; the second gets the next one,
    # although it prefers the same; the third overlaps too little with what is left.
    ious = np.array([[0.6, 0.5, 0.0], [0.9, 0.8, 0.0], [0.7, 0.6, 0.4]])
    assert match_by_score(ious, np.array([0.8, 0.9, 0.7]), 0.5).tolist() == [1, 0, -1]
    assert match_by_score(ious, np.array([0.8, 0.9, 0.7]), 0.4).tolist() == [1, 0, 2]
    # Equal scores and equal overlaps: the first detection, and the first object.
    assert match_by_score(np.full((3, 2), 0.5), np.ones(3), 0.5).tolist() == [0, 1, -1]
    assert match_by_score(np.empty((2, 0)), np.ones(2), 0.5).tolist() == [-1, -1]
