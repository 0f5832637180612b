"""Fingerprints of functions follow what they do, and not how they are written down."""

import functools
import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from shiftproof.corruptions.identity import identify_corruption
from shiftproof.io.function_code import fingerprint_function, fingerprint_source

PLAIN = '''
import numpy as np

LEVELS = (0.1, 0.2, 0.3)
TABLE = np.arange(4)


def scale(values, factor):
    return values * factor


def dim(image, severity, rng, strength=0.5, *, floor=3):
    """Make an image darker."""
    # by its strength
    kept = scale(image, strength * LEVELS[severity - 1])
    return np.maximum(kept + TABLE[0], floor)
'''


def load(folder, text, name="mine"):
    """Import a text as a module of its own; the name of the module is always the same."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fingerprint_of(folder, text, name="dim"):
    return fingerprint_function(getattr(load(folder, text), name))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Make an image darker."""', '"""Darken an image.\n\n    At length.\n    """'),
        ('    """Make an image darker."""\n', ""),
        ("    # by its strength\n", "    # otherwise\n\n"),
        ("def dim(", "\n\n# further down\ndef dim("),
        ("(image, severity, rng, strength", "(\n    image, severity: int,\n    rng, strength"),
        ("kept = scale(", "kept = (scale)("),
        ("def scale(values, factor):", 'def scale(values, factor):\n    """Scale."""'),
        ("LEVELS = ", "UNUSED = 4\nLEVELS = "),
    ],
)
def test_words_and_layout_do_not_matter(tmp_path, old, new):
    assert old in PLAIN
    first = fingerprint_of(tmp_path / "one", PLAIN)
    assert len(first) == 32
    assert fingerprint_of(tmp_path / "two", PLAIN.replace(old, new, 1)) == first


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("strength=0.5", "strength=0.6"),
        ("floor=3", "floor=4"),
        ("+ TABLE[0]", "+ TABLE[1]"),
        ("severity - 1", "severity - 2"),
        ("0.1, 0.2, 0.3", "0.1, 0.2, 0.4"),
        ("np.arange(4)", "np.arange(5)"),
        ("values * factor", "values / factor"),
        ("np.maximum", "np.minimum"),
        ("def dim", "@np.vectorize\ndef dim"),
    ],
)
def test_what_a_function_does_matters(tmp_path, old, new):
    assert old in PLAIN
    first = fingerprint_of(tmp_path / "one", PLAIN)
    assert fingerprint_of(tmp_path / "two", PLAIN.replace(old, new, 1)) != first


def make(strength, other=None):
    def dim(image, severity, rng):
        return image * strength if other is None else other(image)

    return dim


def test_captured_values_matter():
    values = [1, 2, 1.0, "1", [1], [1, 2], {"a": 1}, {"a": 2}, {1, 2}, np.ones(2), np.ones(3), None]
    prints = [fingerprint_function(make(value)) for value in values]
    assert len(set(prints)) == len(values)
    again = [fingerprint_function(make(value)) for value in values]
    assert again == prints
    nested = [fingerprint_function(make(1, make(value))) for value in (1, 2)]
    assert nested[0] != nested[1]


def test_defaults_matter_where_the_source_is_the_same():
    def make_default(value, only):
        def dim(image, severity, rng, strength=value, *, floor=only):
            return image * strength + floor

        return dim

    found = {fingerprint_function(make_default(*pair)) for pair in ((1, 1), (1, 2), (2, 1), (1, 1))}
    assert len(found) == 3


def test_tensors_matter():
    torch = pytest.importorskip("torch")
    values = [torch.ones(2), torch.zeros(2), torch.ones(2, dtype=torch.bfloat16), torch.ones(2, 1)]
    assert len({fingerprint_function(make(value)) for value in values}) == len(values)


def test_lambdas_of_one_line_are_told_apart():
    one, other = (lambda image: image + 1), (lambda image: image + 2)  # fmt: skip
    alone = lambda image: image + 1  # noqa: E731
    assert fingerprint_function(one) != fingerprint_function(other)
    assert fingerprint_function(alone) != fingerprint_function(other)


class Dim:
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, image, severity, rng):
        return image * self.strength

    def dim(self, image, severity, rng):
        return image / self.strength


def test_objects_methods_and_partials_are_known_by_what_they_bind():
    for build in (
        Dim,
        lambda strength: Dim(strength).dim,
        lambda strength: functools.partial(Dim.dim, strength),
        lambda strength: functools.partial(make(1), severity=strength),
    ):
        one, same, other = (fingerprint_function(build(value)) for value in (1, 1, 2))
        assert one == same != other
    assert fingerprint_function(Dim(1)) != fingerprint_function(Dim(1).dim)


def test_compiled_functions_are_known_by_their_python_form(tmp_path):
    text = """
    import numba

    @numba.njit
    def dim(image, severity, rng):
        return image + 1
    """
    first = fingerprint_of(tmp_path / "one", text)
    assert first == fingerprint_of(
        tmp_path / "two", text.replace("return", "# more\n        return")
    )
    assert first != fingerprint_of(tmp_path / "three", text.replace("+ 1", "+ 2"))


def test_functions_that_name_each_other_end(tmp_path):
    text = """
    def even(count):
        return count == 0 or odd(count - 1)

    def odd(count):
        return count != 0 and even(count - 1)
    """
    one = fingerprint_of(tmp_path / "one", text, "even")
    assert one == fingerprint_of(tmp_path / "two", text, "even")
    assert one != fingerprint_of(tmp_path / "three", text.replace("!= 0", "!= 1"), "even")


def test_a_file_that_changed_after_its_import_is_not_the_source(tmp_path):
    module = load(tmp_path / "one", PLAIN)
    first = fingerprint_function(module.dim)
    Path(module.__file__).write_text(PLAIN.replace("floor)", "7)"))
    changed = fingerprint_function(module.dim)  # from its compiled code, as without a source
    after = fingerprint_of(tmp_path / "two", PLAIN.replace("floor)", "7)"))
    assert after not in (first, changed)


STATEFUL = """
COUNTS, SEEN, SESSION = {"calls": 0}, [], None
FACTORS = [2]

def dim(image, severity, rng):
    global SESSION
    SESSION = SESSION or object()
    COUNTS["calls"] += 1
    SEEN.append(severity)
    return image * FACTORS[0]

class Dim:
    def __init__(self, factor):
        self.factor, self.session, self.calls = factor, None, 0

    def __call__(self, image, severity, rng):
        if self.session is None:
            self.session = object()
        self.calls += 1
        return scale(image, self.factor)

def scale(image, factor):
    return image * factor
"""


def test_what_a_function_writes_to_does_not_matter(tmp_path):
    module = load(tmp_path / "one", STATEFUL)
    for made in (module.dim, module.Dim(2)):
        before = fingerprint_function(made)
        made(1, 2, None)
        assert fingerprint_function(made) == before
    before = fingerprint_function(module.dim), fingerprint_function(module.Dim(2))
    module.FACTORS[0] = 3
    assert fingerprint_function(module.dim) != before[0]
    changed = load(tmp_path / "two", STATEFUL.replace("image * factor", "image / factor"))
    assert fingerprint_function(changed.Dim(2)) != before[1]
    assert fingerprint_function(module.Dim(3)) != before[1]


CONSOLE = """
from shiftproof.corruptions.identity import identify_corruption
exec('''
def dim(image, severity, rng):
    {words}
    return image * {factor}
''')
print(identify_corruption(dim))
"""


def test_functions_without_source_are_known_by_their_code():
    def identify(words, factor):
        code = CONSOLE.format(words=words, factor=factor)
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout

    one = identify('"Darken."', 2)
    assert one == identify('"Make darker."', 2)
    assert one != identify('"Darken."', 3)
    assert one.startswith("__main__.dim ")


def test_the_order_of_sets_does_not_matter():
    code = """
from shiftproof.io.function_code import fingerprint_function
def make(names):
    def dim(image, severity, rng):
        return image if severity in names and severity in {"x", "y", "z"} else None
    return dim
print(fingerprint_function(make({"a", "b", "c", "d"})))
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_a_source_is_known_without_its_words():
    one = 'def make():\n    """Make."""\n    return 1  # one\n'
    assert fingerprint_source(one) == fingerprint_source("def make():\n    return 1\n")
    assert fingerprint_source(one) != fingerprint_source("def make():\n    return 2\n")
    assert fingerprint_source("def make(:") is None


def test_the_identity_of_a_corruption_names_the_function(tmp_path):
    module = load(tmp_path / "one", PLAIN)
    name, digits = identify_corruption(module.dim).split()
    assert (name, len(digits)) == ("mine.dim", 32)
    bound = identify_corruption(functools.partial(module.dim, strength=0.1))
    assert bound.startswith("functools.partial of mine.dim ")
    assert bound != identify_corruption(functools.partial(module.dim, strength=0.2))
