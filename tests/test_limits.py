"""The limits that the documentation states are those of the code, and hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from shiftproof.data.detection import yolo
from shiftproof.errors import InputError
from shiftproof.io import expansion, images, locations, parquet, pickles, yaml
from shiftproof.metrics import masks
from shiftproof.models.segmenters import label_spaces
from shiftproof.report import page
from shiftproof.runs.records import classification, segmentation

TEXT = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", TEXT, re.MULTILINE))

LIMITS = {
    "an image": [images.MAX_PIXELS],
    "images of a run": [np.iinfo(classification.CellRecords().position.dtype).max],
    "classes of a classifier": [np.iinfo(classification.CellRecords().prediction.dtype).max],
    "classes of a YOLO dataset": [yolo.MAX_CLASSES],
    "numbers in a label map": [label_spaces.MAX_NUMBERS],
    "corners and edges of one polygon": [masks.MAX_STEPS],
    "a YAML file": [yaml.MAX_BYTES, yaml._MAX_VALUES, expansion.MAX_DEPTH],
    "a pickle of results": [pickles.MAX_BYTES],
    "a Parquet table": [
        parquet._VALUES_PER_BYTE, parquet._FREE_VALUES, parquet._RATIO, parquet._FREE_BYTES,
    ],
    "tars behind a pattern `{000..999}`": [locations._MAX_NAMES],
    "a page": [page.LIMIT],
}  # fmt: skip


@pytest.mark.parametrize("what", LIMITS)
def test_a_stated_limit_is_that_of_the_code(what):
    numbers = [int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", ROWS[what])]
    assert numbers == LIMITS[what]


def test_a_record_of_segmentation_holds_so_many_classes():
    stated = re.search(r"a record of segmentation holds ([\d,]+) classes", TEXT)[1]
    assert np.iinfo(segmentation.NO_PIXELS.truth.dtype).max == int(stated.replace(",", ""))


def test_one_pattern_more_than_stated_is_refused():
    with pytest.raises(InputError, match="stands for 100,001 files"):
        locations.expand_braces("a{000000..100000}.tar")
    assert len(locations.expand_braces("a{000000..099999}.tar")) == 100_000
