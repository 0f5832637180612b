"""How folder names and labels find a model's classes."""

import pickle

import pytest

from shiftproof.classes import Classes, imagenet, named, numbered
from shiftproof.errors import InputError, LabelError

# Index, WordNet id and name as in every list of ILSVRC 2012.
KNOWN = [
    (0, "n01440764", "tench"), (1, "n01443537", "goldfish"), (207, "n02099601", "golden retriever"),
    (281, "n02123045", "tabby"), (409, "n02708093", "analog clock"), (817, "n04285008", "sports car"),
    (999, "n15075141", "toilet tissue"),
]  # fmt: skip


@pytest.mark.parametrize(("index", "wordnet_id", "name"), KNOWN)
def test_imagenet_is_in_the_usual_order(index, wordnet_id, name):
    classes = imagenet()
    assert classes.wordnet_ids[index] == wordnet_id
    for spelling in (wordnet_id, wordnet_id.upper(), name, name.title(), name.replace(" ", "_"),
                     f"  {name.replace(' ', '-')} ", str(index), f"{index:04}"):  # fmt: skip
        assert classes.find(spelling) == index


def test_imagenet_has_a_thousand_classes_in_sorted_order_of_ids():
    classes = imagenet()
    assert len(classes) == len(classes.names) == 1000
    assert list(classes.wordnet_ids) == sorted(set(classes.wordnet_ids))
    assert classes.title == "imagenet-1k"


def test_every_id_and_index_of_imagenet_finds_itself():
    classes = imagenet()
    for index, wordnet_id in enumerate(classes.wordnet_ids):
        assert classes.find(wordnet_id) == index
        assert classes.find(str(index)) == index


def test_a_synonym_finds_its_class_and_one_of_two_classes_none():
    classes = imagenet()
    assert classes.find("man-eating shark") == 2
    for both in ("cardigan", "grass snake", "panther"):  # a dog and a jacket, ...
        assert classes.find(both) is None
        with pytest.raises(LabelError):
            classes.index(both)


def test_a_name_goes_before_an_index():
    classes = named(["2", "1", "0"])
    assert [classes.find(text) for text in ("0", "1", "2")] == [2, 1, 0]


def test_numbered_classes_are_their_index():
    classes = numbered(12)
    assert [classes.find(str(index)) for index in range(12)] == list(range(12))
    assert classes.find("12") is None


@pytest.mark.parametrize(
    "label", ["", " ", "-1", "3", "1.0", "1e0", "0x1", "²", "catt", "n01440764"]
)
def test_what_is_no_class_is_not_found(label):
    assert named(["cat", "dog", "bird"]).find(label) is None


def test_a_misspelt_label_gets_the_nearest_class():
    with pytest.raises(LabelError, match=r"Unknown class 'brid'\. Did you mean 'bird'\?") as caught:
        named(["cat", "dog", "bird"]).index("brid")
    assert "The model has 3 classes (cat, dog, bird); give a class map" in str(caught.value)


def test_of_many_classes_a_few_are_shown():
    with pytest.raises(LabelError) as caught:
        imagenet().index("qqqq")
    assert "1000 classes (tench, goldfish" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_index_outside_the_classes_says_the_range():
    with pytest.raises(LabelError, match=r"Label 3 is outside .* it has 3, so expected 0 to 2"):
        named(["cat", "dog", "bird"]).index("3")


def test_a_label_error_is_an_input_error_and_a_value_error():
    with pytest.raises(InputError):
        named(["cat"]).index("dog")
    with pytest.raises(ValueError):
        named(["cat"]).index("dog")


def test_classes_must_be_some_and_ids_as_many():
    with pytest.raises(LabelError, match="at least one class"):
        named([])
    with pytest.raises(LabelError, match="at least one class"):
        numbered(0)
    with pytest.raises(LabelError, match="got 1 ids for 2 classes"):
        Classes(("cat", "dog"), wordnet_ids=("n02121808",))


def test_classes_survive_the_way_to_a_worker():
    classes = imagenet()
    classes.find("tench")
    there = pickle.loads(pickle.dumps(classes))
    assert there == classes
    assert there.find("golden_retriever") == 207
