"""Arguments of a grid, as people give them."""

import json

import numpy as np
import pytest

from shiftproof.bench.arguments import check_severities, name_corruptions
from shiftproof.errors import InputError


def test_names_and_severities_of_numpy_are_plain_ones():
    named = name_corruptions(np.array(["fog", "snow"]))
    assert json.dumps(named) == '{"fog": "fog", "snow": "snow"}'
    assert {type(item) for pair in named.items() for item in pair} == {str}
    severities = check_severities(np.arange(1, 3))
    assert severities == [1, 2]
    assert {type(severity) for severity in severities} == {int}


def test_one_severity_is_no_list():
    with pytest.raises(InputError, match=r"list of severities; write \[3\]"):
        check_severities(3)
