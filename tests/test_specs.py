"""Texts that name a thing with its options."""

from dataclasses import dataclass

import pytest

from shiftproof import specs
from shiftproof.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Row:
    example: str
    options: frozenset[str] = frozenset()


SOURCES = {"demo": Row("demo"), "onnx": Row("onnx:a.onnx", frozenset({"output"}))}
READERS = {"size": specs.read_pixels, "mean": specs.read_numbers, "output": str}


def parse(spec):
    return specs.parse_spec(spec, SOURCES, READERS, wrapped="Model(module)")


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("demo", ("demo", "", {})),
        ("onnx:C:/nets/a,b.onnx", ("onnx", "C:/nets/a,b.onnx", {})),
        ("onnx:what?/a.onnx", ("onnx", "what?/a.onnx", {})),
        ("onnx:a=b.onnx?output=y=z", ("onnx", "a=b.onnx", {"output": "y=z"})),
        (
            " onnx:a.onnx?size=240x320&mean=0.5,0.25 ",
            ("onnx", "a.onnx", {"size": (240, 320), "mean": (0.5, 0.25)}),
        ),
    ],
)
def test_a_target_keeps_its_own_punctuation(spec, parts):
    assert parse(spec) == parts


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("onx:a.onnx", UnknownNameError, "source of models 'onx'. Did you mean 'onnx'"),
        ("nets/a.ONNX", UnknownNameError, "is a file; write: onnx:nets/a.ONNX"),
        ("C:/a.onnx", UnknownNameError, "is a file; write: onnx:C:/a.onnx"),
        ("nets/a.pt", UnknownNameError, "Known: demo, onnx"),
        ("onnx:", InputError, "names no model; expected for example onnx:a.onnx"),
        ("demo?sise=3", UnknownNameError, "option 'sise'. Did you mean 'size'"),
        ("demo?size=", InputError, "expected size=VALUE, got 'size='"),
        ("demo?size=1&size", InputError, "expected size=VALUE, got 'size'"),
        ("demo?size=1&size=2", InputError, "the option size is given twice"),
        ("demo?size=wide", InputError, "'demo[?]size=wide': size cannot be 'wide'"),
        (3, InputError, r"such as 'onnx:a.onnx', got int\. Wrap a model in memory by Model"),
    ],
)
def test_an_error_says_what_to_write(spec, error, words):
    with pytest.raises(error, match=words):
        parse(spec)


def test_names_without_a_target_have_the_same_errors():
    name, options = specs.split_name(" rpl:lr=1e-3 , q=0.8")
    assert name == "rpl"
    readers = {"lr": specs.read_number, "q": float}
    assert specs.read_options(options, readers, spec="s") == {"lr": 1e-3, "q": 0.8}
    for text, words in [
        ("lr", "'s': expected lr=VALUE, got 'lr'"),
        ("lr=1,lr=2", "'s': the option lr is given twice"),
        ("lr=fast", "'s': lr cannot be 'fast'"),
        ("rl=1", "Unknown option of rpl 'rl'. Did you mean 'lr'"),
    ]:
        with pytest.raises(InputError, match=words):
            specs.read_options(text, readers, spec="s", owner="rpl")


def test_keywords_stand_beside_the_text():
    keywords = {"size": None, "output": "y"}
    merged = specs.merge_options("onnx:a", keywords, {"size": 3}, "onnx", SOURCES, common=("size",))
    assert merged == {"size": 3, "output": "y"}
    with pytest.raises(InputError, match="output is an option of onnx models; 'demo'"):
        specs.merge_options("demo", keywords, {}, "demo", SOURCES, common=("size",))
    with pytest.raises(InputError, match="size is given twice: here and as a keyword"):
        specs.merge_options("onnx:a", {"size": 1}, {"size": 3}, "onnx", SOURCES, common=("size",))


def test_a_whole_number_stays_whole():
    assert [specs.read_number(text) for text in ("3", "3.0", "inf")] == [3, 3.0, float("inf")]
    assert isinstance(specs.read_number("3"), int)
    assert [specs.read_switch(text) for text in ("true", "False")] == [True, False]
    with pytest.raises(ValueError, match="maybe"):
        specs.read_switch("maybe")
