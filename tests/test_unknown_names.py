"""Errors for unknown names."""

import pytest

from shiftproof.adapt.table import check_adapter_spec
from shiftproof.bench.arguments import name_corruptions
from shiftproof.cli.corruption_choice import read_choice
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.errors import UnknownNameError
from support.command import run


def test_a_short_table_is_listed_whole():
    error = UnknownNameError.of("engine", "lokal", ["local", "ray"])
    assert str(error) == "Unknown engine 'lokal'. Did you mean 'local'? Known: local, ray."


def test_of_a_long_table_the_nearest_come_first_and_the_rest_is_counted():
    names = [f"name-{number}" for number in range(2000)]
    error = UnknownNameError.of("thing", "name-1999x", names)
    message = str(error)
    assert message.startswith(
        "Unknown thing 'name-1999x'. Did you mean 'name-1999'? Known: name-1999, "
    )
    assert message.endswith(" and 1,995 more.")
    assert message.count("name-") == 7


def test_without_a_near_name_all_are_listed():
    names = [f"name-{number}" for number in range(20)]
    error = UnknownNameError.of("thing", "qqq", names)
    assert str(error) == f"Unknown thing 'qqq'. Known: {', '.join(names)}."


@pytest.mark.parametrize("read", [read_choice, lambda text: name_corruptions([text])])
def test_the_command_that_lists_corruptions_is_named(read):
    with pytest.raises(UnknownNameError) as raised:
        read("fgo")
    message = str(raised.value)
    assert "Did you mean 'fog'? Known: fog, " in message
    assert message.endswith(" more: `shiftproof corruptions` lists them.")
    assert message.count(",") == 4
    assert len(CORRUPTIONS) > 8


def test_the_command_that_lists_adapters_is_named(capsys):
    with pytest.raises(UnknownNameError, match=r"more: `shiftproof models` lists them\.$"):
        check_adapter_spec("batchnrom")
    for verb in ("models", "corruptions"):
        assert run(verb) == 0
    output = capsys.readouterr().out
    assert "batchnorm" in output
    assert "fog" in output
