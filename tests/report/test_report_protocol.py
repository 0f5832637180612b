"""The protocol and the events of a run on its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shiftproof.bench import parse_protocol
from shiftproof.errors import BrokenFileError
from shiftproof.report import write_report
from shiftproof.report.sections import _spell_differing
from support.page_reading import Node, parse
from support.report_runs import scores, write_run


def page_of(run: Path | list[Path]) -> Node:
    return parse(write_report(run).read_text(encoding="utf-8"))


def with_protocol(folder: Path, text: str, **settings: Any) -> Path:
    protocol = parse_protocol(text).settings
    return write_run(folder, sheets=0, settings={"protocol": protocol, **settings})


def tell(run: Path, episode: str, *events: dict[str, Any], model: str = "BN") -> Path:
    path = run / "events" / model / f"{episode}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 2, "events": list(events)}), encoding="utf-8")
    return path


def event(batch: int, cell: str | None, kind: str = "skipped", number: int = 0) -> dict[str, Any]:
    return {"kind": kind, "reason": f"Sentence {batch}.", "batch": batch, "pass": number,
            "cell": cell}  # fmt: skip


# ---------------------------------------------------------------- the protocol


def test_the_protocol_is_stated_in_words_and_in_full(tmp_path: Path) -> None:
    page = page_of(with_protocol(tmp_path / "run", "online:mix=severities"))
    assert (
        "Protocol: online, each image predicted once while the model adapts; reset before each "
        "corruption; batches mix the severities of a corruption; images shuffled."
    ) in page.by_id("overview").text
    settings = page.by_id("settings").text
    for line in ("mixseverities", "resetcorruption", "modeonline", "epochsnone"):
        assert line in settings


@pytest.mark.parametrize(
    ("protocol", "settings", "said"),
    [
        ("online", {}, None),
        ("offline", {}, "protocol (first: online, each image predicted once"),
        ("online:reset=never", {}, "protocol (first: online, each image predicted once"),
        ("online", {"batch_size": 8}, "batch size of the adapters (first: 64; second: 8)"),
        ("online", {"batch_size": 8, "adapters": {}}, None),
    ],
)
def test_runs_of_two_protocols_are_not_compared_silently(
    tmp_path: Path, protocol: str, settings: dict[str, Any], said: str | None
) -> None:
    first = with_protocol(tmp_path / "first", "online")
    second = with_protocol(tmp_path / "second", protocol, **settings)
    page = page_of([first, second])
    alarms = [node.text for node in page.all(style="alarm")]
    overview = page.by_id("overview").text
    if said is None:
        assert not alarms
        assert "Protocol of first and second: online" in overview
        return
    assert said in alarms[0]
    assert "not comparable" in alarms[0]
    if protocol != "online":
        assert "Protocol of first: online" in overview
        assert f"Protocol of second: {parse_protocol(protocol).description}." in overview


def test_a_run_that_states_its_protocol_otherwise_is_shown_as_it_says(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0, settings={"protocol": "as published"})
    assert "Protocol: as published." in page_of(run).by_id("overview").text
    run = write_run(tmp_path / "none", sheets=0, settings={"protocol": None})
    assert "Protocol" not in page_of(run).by_id("overview").text


# ---------------------------------------------------------------- events


def test_what_happened_is_counted_and_the_first_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    tell(run, "snow-2", event(7, "snow-2"), event(9, "snow-2", kind="rolled back"))
    tell(run, "fog", *(event(batch, None) for batch in range(1000)))
    tell(run, "gaussian_noise-1", event(3, "gaussian_noise-1", number=2))
    page = page_of(run)
    rows = [
        [cell.text for cell in (*row.inside("td"), *row.inside("th"))]
        for row in page.by_id("events").all("tr")
        if row.inside("td")
    ]
    skipped, back = rows
    assert [skipped[0], skipped[1], skipped[-1]] == ["BN", "1,002", "skipped"]
    # In the order of the grid, not of the names.
    assert skipped[2] == (
        "Gaussian noise, severity 1, pass 3, batch 4: Sentence 3."
        "Snow, severity 2, batch 8: Sentence 7."
        "Fog, mixed, batch 1: Sentence 0."
        "and 999 more, in the run's folder"
    )
    assert [back[0], back[1], back[-1]] == ["BN", "1", "rolled back"]
    assert "Events" in page.one("nav").text


def test_events_that_are_only_counted_are_in_the_sum(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    singles = [event(batch, None) for batch in range(20)]
    tell(run, "fog", *singles, {**event(299, None), "count": 280})
    row = page_of(run).by_id("events").all("td")
    assert row[1].text == "300"
    assert row[2].text.endswith(
        "Fog, mixed, batch 3: Sentence 2."
        "and 297 more; the run's folder lists 20 and counts the others"
    )


def test_without_events_there_is_no_such_section(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    tell(run, "fog", event(1, None), model="nobody")
    assert "Events of the adapters" not in [node.text for node in page_of(run).all("h2")]


def test_what_an_adapter_says_is_text_and_no_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    markup = event(1, "<i>x</i>", kind="<b>k</b>")
    tell(run, "fog-1", {**markup, "reason": "<script>alert(1)</script>"})
    text = write_report(run).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;b&gt;k&lt;/b&gt;" in text


def test_a_name_in_the_scores_leads_to_no_other_place(tmp_path: Path) -> None:
    content = scores(corruptions=("fog", "../../outside"))
    run = write_run(tmp_path / "run", content, sheets=0)
    tell(run, "fog-1")
    (tmp_path / "run" / "outside.json").write_text("not JSON", encoding="utf-8")
    write_report(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"format": 9, "events": []}', "expected format 2, got 9"),
        ('{"format": 2}', "a value at events"),
        ('{"format": 2, "events": [{"kind": 3}]}', r"at events\[0\]"),
    ],
)
def test_damaged_events_are_named(tmp_path: Path, content: str, message: str) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    path = tell(run, "fog-1")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BrokenFileError, match=message):
        write_report(run)


def test_of_settings_with_many_parts_those_that_differ_are_named() -> None:
    fly = {"source": "on the fly", "seed": 0, "encode": "none", "same": 1}
    disk = {"source": "from disk", "same": 1, "tree": {"name": "copies", "images": 12}}
    assert _spell_differing([fly, disk]) == [
        "source on the fly, seed 0, encode none, and 2 more",
        "source from disk, seed not stated, encode not stated, and 2 more",
    ]
    assert _spell_differing([fly, {**fly, "seed": 7}]) == ["seed 0", "seed 7"]
    assert _spell_differing(["jpeg", None]) == ["jpeg", "not stated"]
