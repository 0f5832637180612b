"""Record tables of strangers: bounded by the size of their file, and refused by name."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.runs.records.classification import _FORMATS, CellRecords, read_cell, write_cell
from shiftproof.runs.records.detection import (
    DetectionRecords,
    ImageDetections,
    read_detections,
    write_detections,
)


def table_of(ids, **columns):
    count = len(ids)
    plain = {
        "position": pa.array(np.zeros(count, np.int32)),
        "target": pa.nulls(count, pa.int32()),
        "prediction": pa.nulls(count, pa.int32()),
        "confidence": pa.nulls(count, pa.float32()),
        "top5": pa.nulls(count, pa.list_(pa.int32())),
        "loss": pa.nulls(count, pa.float32()),
        "error": pa.nulls(count, pa.string()),
        **columns,
    }
    return pa.Table.from_arrays(
        [pa.array(ids, pa.string()), *plain.values()], schema=_FORMATS[0].make_schema()
    )


@pytest.mark.parametrize("count", [100_000, 2_000_000])
def test_rows_that_pack_to_nothing_are_refused(tmp_path, count):
    path = tmp_path / "a.parquet"
    pq.write_table(table_of(["a"] * count), path, compression="zstd")
    with pytest.raises(BrokenFileError, match=r"a\.parquet: not a readable record table"):
        read_cell(path)


def test_one_long_text_for_all_rows_is_one_text(tmp_path):
    path = tmp_path / "a.parquet"
    errors = pa.array(["x" * 100_000] * 3000, pa.string())
    pq.write_table(table_of([str(row) for row in range(3000)], error=errors), path)
    found = read_cell(path).error
    assert len({id(text) for text in found}) == 1


def test_what_was_written_comes_back(tmp_path):
    records = CellRecords(
        ids=["a", "b"],
        position=np.array([0, 1], np.int32),
        target=np.array([1, -1], np.int32),
        prediction=np.array([1, -1], np.int32),
        confidence=np.array([0.5, np.nan], np.float32),
        loss=np.array([0.1, np.nan], np.float32),
        top=np.array([[1, 2, 3, 4, 5], [-1] * 5], np.int32),
        error=[None, "b: broken"],
    )
    write_cell(tmp_path / "a.parquet", records)
    back = read_cell(tmp_path / "a.parquet")
    assert back.error == records.error
    for name in ("position", "target", "prediction", "confidence", "loss", "top"):
        np.testing.assert_array_equal(getattr(back, name), getattr(records, name))


def test_masks_that_are_not_those_of_the_boxes_are_refused(tmp_path):
    one = ImageDetections(np.zeros(2, np.int32), np.ones(2), np.ones((2, 4)), (b"a",))
    records = DetectionRecords(["a"], np.zeros(1, np.int32), [one], [None])
    write_detections(tmp_path / "a.parquet", records)
    with pytest.raises(BrokenFileError, match="different numbers of masks"):
        read_detections(tmp_path / "a.parquet")
