import itertools
import json

import numpy as np
import pytest

from shiftproof.bench import Protocol, parse_protocol
from shiftproof.bench.cells.batching import list_cells
from shiftproof.bench.cells.stream import list_episodes, order_in_bursts
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.rng import generator
from shiftproof.types import CLEAN, Cell, Sample

CELLS = list_cells(["fog", "snow"], [1, 2, 4], clean=True)
SAMPLES = [Sample(f"{number}.png", number % 4) for number in range(23)]

EVERY = [
    "online",
    "offline",
    "offline:epochs=3",
    "online:reset=corruption",
    "online:reset=never",
    "online:mix=severities",
    "online:mix=severities,reset=never",
    "online:mix=all",
    "online:order=sorted",
    "online:order=dirichlet",
    "online:reset=never,order=dirichlet,concentration=0.5",
    "online:severity=gradual",
    "online:severity=gradual,reset=never,order=sorted",
    "offline:epochs=2,mix=severities,order=dirichlet",
    "offline:epochs=2,reset=never,severity=gradual",
]


def streams(text, cells=CELLS, samples=SAMPLES, seed=0):
    return {e.name: e for e in list_episodes(cells, samples, parse_protocol(text), seed=seed)}


def shown(visit):
    """The visit as pairs of cell and sample."""
    return [
        (visit.cells[cell], row)
        for cell, row in zip(visit.cell_indices.tolist(), visit.rows.tolist(), strict=True)
    ]


# ---------------------------------------------------------------- spelling


@pytest.mark.parametrize("text", EVERY)
def test_a_protocol_reads_its_own_spelling(text):
    protocol = parse_protocol(text)
    again = parse_protocol(str(protocol))
    assert again == protocol
    assert hash(again) == hash(protocol)
    assert len(str(protocol)) <= len(text)
    fields = json.loads(json.dumps(protocol.settings, allow_nan=False))
    assert fields.pop("description") == protocol.description
    assert Protocol(**fields) == protocol


def test_different_protocols_are_described_differently():
    assert len({parse_protocol(text).description for text in EVERY}) == len(
        {parse_protocol(text) for text in EVERY}
    )


def test_what_is_not_said_is_filled_in():
    assert Protocol() == parse_protocol("online") == parse_protocol(" online: ")
    assert (Protocol().reset, Protocol().epochs, Protocol().concentration) == ("cell", None, None)
    assert parse_protocol("offline").epochs == 1
    assert parse_protocol("online:order=dirichlet").concentration == 0.1
    assert parse_protocol("online:mix=severities").reset == "corruption"
    assert parse_protocol("online: severity = gradual").reset == "corruption"
    assert parse_protocol("online:mix=all").reset == "never"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("onlin", UnknownNameError, "Did you mean 'online'"),
        ("", UnknownNameError, "Unknown protocol ''"),
        ("online:rest=cell", UnknownNameError, "Did you mean 'reset'"),
        ("online:reset=nevr", UnknownNameError, "Did you mean 'never'"),
        ("online:mix=severity", UnknownNameError, "Did you mean 'severities'"),
        ("online:order=random", UnknownNameError, "shuffled, sorted, dirichlet"),
        ("online:severity=falling", UnknownNameError, "rising, gradual"),
        ("online:reset", InputError, "expected reset=VALUE"),
        ("online:reset=cell,reset=cell", InputError, "given twice"),
        ("offline:epochs=two", InputError, "epochs cannot be 'two'"),
        ("offline:epochs=0", InputError, "epochs of 1 or more, got 0"),
        ("online:epochs=5", InputError, "offline:epochs=5"),
        ("online:concentration=1", InputError, "belongs to order=dirichlet"),
        ("online:order=dirichlet,concentration=0", InputError, "above 0, got 0"),
        ("online:order=dirichlet,concentration=nan", InputError, "above 0, got nan"),
        ("online:order=dirichlet,concentration=inf", InputError, "above 0, got inf"),
        ("online:mix=severities,reset=cell", InputError, "reset=corruption or never"),
        ("online:mix=all,reset=corruption", InputError, "reset=never"),
        ("online:severity=gradual,reset=cell", InputError, "reset=corruption or never"),
        ("online:severity=gradual,mix=severities", InputError, "leave one of them out"),
        ("online:severity=gradual,mix=all", InputError, "leave one of them out"),
    ],
)
def test_what_cannot_be_is_refused(text, error, message):
    with pytest.raises(error, match=message):
        parse_protocol(text)


@pytest.mark.parametrize("epochs", [True, 1.5, "3"])
def test_epochs_are_whole_numbers(epochs):
    with pytest.raises(InputError, match="epochs of 1 or more"):
        Protocol(mode="offline", epochs=epochs)


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("text", EVERY)
def test_every_image_is_recorded_once_in_every_cell_and_seen_once_in_every_pass(text):
    protocol = parse_protocol(text)
    expected = sorted(itertools.product(CELLS, range(len(SAMPLES))))
    seen = {}
    for episode in streams(text).values():
        numbers = [visit.pass_index for visit in episode.visits]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(episode.passes))
        for visit in episode.visits:
            assert visit.recorded == (visit.pass_index == episode.passes - 1)
            passed = seen.setdefault((episode.name, visit.pass_index), [])
            assert visit.start == len(passed)
            passed += shown(visit)
        ends = [visit.ends_pass for visit in episode.visits]
        assert ends == [a != b for a, b in itertools.pairwise([*numbers, None])]
    for number in range(1 + (protocol.epochs or 0)):
        found = [pair for (_, n), pairs in seen.items() if n == number for pair in pairs]
        assert sorted(found) == expected


@pytest.mark.parametrize("text", EVERY)
def test_a_cell_is_finished_once_and_when_nothing_of_it_is_left(text):
    for episode in streams(text).values():
        finished = [episode.cells_finished_by(number) for number in range(len(episode.visits))]
        assert sorted(itertools.chain(*finished)) == sorted(episode.cells)
        for number, cells in enumerate(finished):
            later = {cell for visit in episode.visits[number + 1 :] for cell in visit.cells}
            assert not later & set(cells)


@pytest.mark.parametrize("text", EVERY)
def test_streams_are_a_function_of_the_seed(text):
    first, again, other = (streams(text, seed=seed) for seed in (5, 5, 6))
    for name, episode in first.items():
        pairs = [shown(visit) for visit in episode.visits]
        assert pairs == [shown(visit) for visit in again[name].visits]
        assert pairs != [shown(visit) for visit in other[name].visits]


def test_by_default_all_cells_share_the_order_that_the_generator_gives():
    order = generator(3, "stream order").permutation(len(SAMPLES))
    found = streams("online", seed=3)
    assert list(found) == ["clean", "fog-1", "fog-2", "fog-4", "snow-1", "snow-2", "snow-4"]
    for episode in found.values():
        [visit] = episode.visits
        np.testing.assert_array_equal(visit.rows, order)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("online:reset=corruption", {"clean": "0", "fog": "1 2 4", "snow": "1 2 4"}),
        ("online:reset=never", {"clean": "0", "all": "1 2 4 1 2 4"}),
        ("online:mix=severities", {"clean": "0", "fog": "124", "snow": "124"}),
        ("online:mix=severities,reset=never", {"clean": "0", "all": "124 124"}),
        ("online:mix=all", {"clean": "0", "all": "124124"}),
        ("online:severity=gradual", {"clean": "0", "fog": "1 2 4 2 1", "snow": "1 2 4 2 1"}),
        (
            "online:severity=gradual,reset=never",
            {"clean": "0", "all": "1 2 4 2 1 1 2 4 2 1"},
        ),
        ("offline:epochs=2,reset=corruption",
         {"clean": "0 0 0", "fog": "1 2 4 1 2 4 1 2 4", "snow": "1 2 4 1 2 4 1 2 4"}),
    ],
)  # fmt: skip
def test_where_a_reset_is_and_what_is_mixed(text, cells):
    found = {
        name: " ".join(
            "".join(str(cell.severity) for cell in visit.cells) for visit in episode.visits
        )
        for name, episode in streams(text).items()
    }
    assert found == cells


def test_mixed_severities_are_shuffled_together():
    samples = [Sample(str(number), 0) for number in range(600)]
    visit = streams("online:mix=severities", samples=samples)["fog"].visits[0]
    share = [np.mean(visit.cell_indices[:300] == cell) for cell in range(3)]
    # Of 300 drawn from 1,800 the share of a severity has a deviation of 0.025.
    np.testing.assert_allclose(share, 1 / 3, atol=0.1)


def test_gradual_deals_the_images_out_to_both_visits():
    visits = streams("online:severity=gradual")["fog"].visits
    by_cell = {}
    for visit in visits:
        by_cell.setdefault(visit.cells[0].severity, []).append(set(visit.rows.tolist()))
    for severity in (1, 2):
        up, down = by_cell[severity]
        assert (len(up), len(down)) == (12, 11)
        assert not up & down
    assert [len(rows) for rows in by_cell[4]] == [23]


def test_gradual_with_one_image_or_one_severity_has_no_empty_visit():
    visits = streams("online:severity=gradual", samples=SAMPLES[:1])["fog"].visits
    assert [visit.cells[0].severity for visit in visits] == [1, 2, 4]
    one = streams("online:severity=gradual", cells=[Cell("fog", 5)])
    assert [len(visit) for visit in one["fog"].visits] == [23]


@pytest.mark.parametrize("text", ["online:order=sorted", "online:order=sorted,mix=severities"])
def test_sorted_is_by_label(text):
    for episode in streams(text).values():
        labels = [SAMPLES[row].label for row in episode.visits[0].rows]
        assert labels == sorted(labels)
        assert list(episode.visits[0].rows) != sorted(episode.visits[0].rows)


def test_offline_passes_come_in_new_orders_and_the_last_in_that_of_online():
    first, second, last = streams("offline:epochs=2")["fog-2"].visits
    assert len({tuple(visit.rows.tolist()) for visit in (first, second, last)}) == 3
    np.testing.assert_array_equal(last.rows, streams("online")["fog-2"].visits[0].rows)


@pytest.mark.parametrize("text", ["online:order=sorted", "online:order=dirichlet"])
def test_an_order_by_labels_needs_labels(text):
    with pytest.raises(InputError, match="expected labels, or order=shuffled"):
        streams(text, samples=[Sample("a"), Sample("b")])


def test_a_grid_without_clean_images():
    assert list(streams("online:reset=never", cells=[c for c in CELLS if c != CLEAN])) == ["all"]


# ---------------------------------------------------------------- bursts of classes


def runs_of(labels):
    """Label and length of each run of equal labels."""
    return [(label, len(list(group))) for label, group in itertools.groupby(labels)]


@pytest.mark.parametrize("concentration", [0.02, 0.1, 1.0])
def test_bursts_are_as_long_as_the_dirichlet_distribution_says(concentration):
    """The mean over classes of the summed squared shares is (c + 1) / (K c + 1).

    A share of the symmetric Dirichlet over K slots is Beta(c, (K - 1) c), with the mean 1 / K and
    the variance (1 / K) (1 - 1 / K) / (K c + 1).
    """
    classes, each = 20, 1000
    labels = np.repeat(np.arange(classes), each)
    found = []
    for seed in range(6):
        order = order_in_bursts(labels, concentration, np.random.default_rng(seed))
        assert sorted(order) == list(range(len(labels)))
        found.append(sum((length / each) ** 2 for _, length in runs_of(labels[order])) / classes)
    expected = (concentration + 1) / (classes * concentration + 1)
    assert np.mean(found) == pytest.approx(expected, rel=0.15)


def test_any_labels_and_hardly_any_images_can_come_in_bursts():
    labels = np.array([7, 900, 7, 7, 3])
    for concentration in (1e-300, 1e-3, 1e6):
        order = order_in_bursts(labels, concentration, np.random.default_rng(0))
        assert sorted(order) == [0, 1, 2, 3, 4]
        assert [row for row in order if labels[row] == 7] == [0, 2, 3]
    assert list(order_in_bursts(np.array([4]), 0.1, np.random.default_rng(0))) == [0]


def test_classes_follow_each_other_in_random_order_within_a_slot():
    """With a large concentration every slot has every class, and the order of classes differs."""
    labels = np.repeat(np.arange(5), 500)
    order = order_in_bursts(labels, 1e6, np.random.default_rng(0))
    slots = labels[order].reshape(5, 500)
    turns = []
    for slot in slots:
        counts = np.bincount(slot)
        np.testing.assert_array_equal(counts, 100)
        turns.append(tuple(label for label, _ in runs_of(slot)))
    assert len(set(turns)) > 1
