"""Groups of options that several commands share: dataclasses whose fields are options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer, with an option for each field of its groups.

    A parameter whose type is a dataclass is a group, which is created from the options' values.
    """
    # Before Python 3.11 get_type_hints puts Optional around a parameter whose default is None, and typer
    # no longer sees that it is an option.
    hints = inspect.get_annotations(command, eval_str=True)
    groups: dict[str, Any] = {
        name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)
    }

    @functools.wraps(command)
    def run(**options: Any) -> None:
        group_values = {
            name: group(
                **{field.name: options.pop(field.name) for field in dataclasses.fields(group)}
            )
            for name, group in groups.items()
        }
        command(**options, **group_values)

    parameters = list(_list_parameters(command, hints, groups))
    # typer reads these, and not the command's own.
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _list_parameters(
    command: Callable[..., None], hints: dict[str, Any], groups: dict[str, Any]
) -> Iterator[inspect.Parameter]:
    """Yield a command's parameters, with those of its groups in their place."""
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            yield _make_parameter(name, hints[name], parameter.default)
            continue
        group_hints = get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            yield _make_parameter(field.name, group_hints[field.name], field.default)


def _make_parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)
