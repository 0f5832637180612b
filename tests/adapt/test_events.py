"""Events of streams without end: the first of a kind one by one, the others counted."""

import math

import pytest

from shiftproof.adapt import Event, make_adapter
from shiftproof.adapt.base.events import EventLog, find_new_events
from support.small_networks import convolutional, noise


class TestLog:
    def test_the_first_twenty_of_each_kind_and_one_for_the_rest(self):
        log = EventLog()
        for batch in range(50):
            log.add("skipped", batch, f"Sentence {batch}.")
        log.add("reset", 50, "Reset.")
        assert [event.batch for event in log.events[:20]] == list(range(20))
        assert log.events[20:] == (
            Event("reset", 50, "Reset."),
            Event("skipped", 49, "Sentence 49.", 30),
        )

    def test_logs_are_joined_by_their_counts(self):
        log = EventLog()
        for batch in range(25):
            log.add("skipped", batch, "")
        joined = EventLog([*log.events, *log.events])
        assert len(joined.events) == 21
        assert sum(event.count for event in joined.events) == 50

    def test_what_is_new(self):
        log = EventLog()
        for batch in range(30):
            before = log.events
            log.add("skipped", batch, str(batch))
            assert find_new_events(before, log.events) == [Event("skipped", batch, str(batch))]
        assert find_new_events(log.events, log.events) == []
        assert find_new_events((), log.events) == list(log.events)


@pytest.mark.parametrize(
    "spec",
    [
        "batchnorm", "batchnorm:over=stream", "rpl", "ent", "hard", "soft", "rdumb:every=7+ent",
        "rdumb:every=1+batchnorm", "guard:window=12,probation=6+batchnorm", "guard+rpl",
        "guard:window=12,probation=6+rdumb:every=3+rpl", "lame",
    ],
)  # fmt: skip
def test_a_broken_stream_adds_no_list_without_end(spec):
    adapter = make_adapter(spec, convolutional())
    broken = noise(6)
    broken[0, 0, 0, 0] = math.nan
    kinds = 5
    for _ in range(60):
        adapter(broken)
    assert len(adapter.events) <= 21 * kinds
    if spec == "lame":
        return
    skipped = [event for event in adapter.events if event.kind == "skipped"]
    assert len(skipped) == 21
    assert sum(event.count for event in skipped) == 60
    assert [event.batch for event in skipped] == [*range(20), 59]
    adapter.reset()
    assert adapter.events == ()
