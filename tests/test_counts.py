"""Counts in sentences."""

from pathlib import Path

import pytest
from PIL import Image

from shiftproof import Classes, Detections
from shiftproof.counts import pluralize
from shiftproof.data import ImageFolder, ImageTable, find_dataset
from shiftproof.display import write_table
from shiftproof.errors import InputError, LabelError


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (12000, "12,000 shards")],
)
def test_one_alone_is_singular(count: int, written: str) -> None:
    assert pluralize(count, "shard") == written


def test_a_word_may_have_a_plural_of_its_own() -> None:
    assert pluralize(1, "pass", "passes") == "1 pass"
    assert pluralize(3, "pass", "passes") == "3 passes"


def test_nouns_that_end_in_a_sibilant_take_es() -> None:
    for one, many in (("class", "classes"), ("box", "boxes"), ("batch", "batches")):
        assert pluralize(1, one) == f"1 {one}"
        assert pluralize(2, one) == f"2 {many}"


def test_one_of_anything_is_singular_in_the_sentences_of_lower_layers(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cow").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "cow" / "a.png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    found = find_dataset(tmp_path / "photos")
    assert found.sentences[0].endswith(", 1 image")
    assert found.omissions == ("1 file that is not an image (1 .txt)",)
    pets = Classes(("cat", "dog"))
    with pytest.raises(LabelError, match=r"none of the 1 class folder\. .* its 2 classes"):
        ImageFolder(tmp_path / "photos", pets)
    with pytest.raises(LabelError, match="1 of 1 image is not in a class folder"):
        ImageFolder(tmp_path / "photos" / "cow", pets, labeled=True)
    (tmp_path / "list.csv").write_text("path,label\na.png,\n")
    with pytest.raises(LabelError, match="1 of 1 row has no label, this one first"):
        ImageTable(tmp_path / "list.csv", pets, labeled=True)
    with pytest.raises(InputError, match="1 of 1 tar does not exist"):
        find_dataset(str(tmp_path / "{0..0}.tar"))
    assert "1 more row. " in write_table("a", ["b"], [["c"]] * 41)
    with pytest.raises(InputError, match=r"one label for each box \(1\), got"):
        Detections([[0, 0, 1, 1]], [0.5], [1, 2])
