"""The names in the code: functions say what they do, in one spelling."""

import ast
import functools
import re
from pathlib import Path

import pytest

import shiftproof
import shiftproof_reproduce

ROOTS = [Path(module.__file__).parent for module in (shiftproof, shiftproof_reproduce)]

TERMS = {
    # Terms of the field, and of Python.
    "expected_calibration_error",
    "generalized_cross_entropy",
    "supervised_loss",
    # A decorator, and a context: they stand before what they describe.
    "compiled",
    "frozen",
    # As the paper calls a corruption.
    "dotted_line",
}

IRREGULAR = {
    "begun", "born", "broken", "brought", "built", "chosen", "come", "cut", "done", "drawn", "felt",
    "frozen", "given", "gone", "held", "hidden", "kept", "known", "laid", "learnt", "led", "left",
    "lost", "made", "met", "paid", "said", "seen", "sent", "shown", "sorted", "spelt", "taken",
    "thought", "told", "understood", "written",
}  # fmt: skip
ALSO_VERBS = {"embed", "need", "shed"}

BRITISH = re.compile(
    "artefact|behaviour|catalogue|centr(?!al|oid)(e|i)|colour|favour|grey|honour|labell|licence|"
    "modell|neighbour|(cancel|travel)l|summaris|synchronis|"
    "(binar|equal|factor|general|initial|local|minim|maxim|normal|optim|organ|parallel|penal|"
    "quant|random|recogn|regular|serial|special|standard|util|vector|visual)is(e|ing|ation)",
    re.IGNORECASE,
)
LEFT_OUT = {
    "ModelLike",
    "COCENTRIC_SINE_WAVES",
    "SINGLE_FREQUENCY_GREYSCALE",
    "cocentric_sine_waves",
    "single_frequency_greyscale",
}
"""Corruptions by the names that papers gave them, and what only looks British."""


CHECKED = [path for root in ROOTS for path in sorted(root.rglob("*.py"))]


def first_word(name: str) -> str:
    return name.strip("_").split("_")[0]


def is_participle(word: str) -> bool:
    is_regular = word.endswith("ed") and not word.endswith("eed") and word not in ALSO_VERBS
    return is_regular or word in IRREGULAR


def participles(nodes: list[ast.AST]) -> list[str]:
    """Functions and methods; a property names a value, and an adjective may do that."""
    found = []
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            is_property = decorators & {"property", "cached_property", "functools.cached_property"}
            known = node.name.strip("_") in TERMS
            if not is_property and not known and is_participle(first_word(node.name)):
                found.append(node.name)
    return found


def british_names(nodes: list[ast.AST]) -> set[str]:
    names = {
        getattr(node, field)
        for node in nodes
        for field in ("id", "arg", "attr", "name", "asname")
        if isinstance(getattr(node, field, None), str)
    }
    return {name for name in names - LEFT_OUT if BRITISH.search(name)}


@functools.cache
def find_names(source: str) -> tuple[list[str], set[str]]:
    """Past participles and British names. These are kept, as the trees of all files would fill memory."""
    nodes = list(ast.walk(ast.parse(source)))
    return participles(nodes), british_names(nodes)


def find_in_files(root: Path, which: int) -> dict[str, list[str] | set[str]]:
    texts = {
        path: path.read_text(encoding="utf-8") for path in CHECKED if path.is_relative_to(root)
    }
    found = {
        path.relative_to(root).as_posix(): find_names(text)[which] for path, text in texts.items()
    }
    return {name: names for name, names in found.items() if names}


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_no_function_begins_with_a_past_participle(root):
    found = find_in_files(root, 0)
    assert not found, f"{found}: name a function by a verb in the imperative, draw_fog or find_rows"


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_names_have_american_spelling(root):
    found = find_in_files(root, 1)
    assert not found, f"{found}: spell it the American way, as normalize, color, neighbor"


def test_the_checks_see_what_they_are_for():
    source = """
class Fog:
    @property
    def blended(self): ...
    def _drawn(self): ...
def fogged(image): ...
def feed(image): ...
def found_new(image): ...
def expected_calibration_error(image): ...
async def taken_back(image): ...
"""
    assert set(find_names(source)[0]) == {"_drawn", "fogged", "taken_back"}
    spelled = (
        "def normalise(colour, neighbours, centre, central, noise, promise, wise, center): ..."
    )
    assert find_names(spelled)[1] == {"normalise", "colour", "neighbours", "centre"}
