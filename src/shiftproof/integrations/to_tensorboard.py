"""A run for TensorBoard: scores as scalars, curves with the severity as step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from shiftproof.integrations.logged import Logged
from shiftproof.io import files
from shiftproof.lazy import import_extra


def check() -> None:
    """Check that TensorBoard is installed.

    Raises:
        MissingExtraError: it is not.
    """
    import_extra("tensorboard.summary.writer.event_file_writer", "tensorboard")


def write(logged: Logged, where: str | None) -> str:
    """Log a run, and return its folder below the log folder.

    The log folder is ``runs`` by default, as in torch.
    """
    check()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = files.make_folder(Path(where or "runs") / logged.name)
    writer = EventFileWriter(str(folder))
    now = time.time()
    for name, step, value in _list_scalars(logged):
        entry = Summary.Value(tag=name, simple_value=value)
        writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=[entry])))
    text = TensorProto(dtype=DT_STRING, string_val=[_describe(logged).encode("utf-8")])
    plugin = SummaryMetadata.PluginData(plugin_name="text")
    entry = Summary.Value(tag="settings", metadata=SummaryMetadata(plugin_data=plugin), tensor=text)
    writer.add_event(Event(wall_time=now, step=0, summary=Summary(value=[entry])))
    writer.close()
    return str(folder)


def _list_scalars(logged: Logged) -> Iterator[tuple[str, int, float]]:
    for name, value in logged.figures.items():
        yield name, 0, value
    for name, curve in logged.curves.items():
        for severity, value in curve.items():
            yield name, severity, value


def _describe(logged: Logged) -> str:
    """Return the settings as a Markdown code block, for TensorBoard's text view."""
    lines = json.dumps({"kind": logged.kind, **logged.settings}, indent=1).splitlines()
    return "\n".join(f"    {line}" for line in lines)
