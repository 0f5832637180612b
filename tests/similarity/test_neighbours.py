import numpy as np
import pytest

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.similarity import (
    merge_nearest,
    merge_top_k,
    nearest,
    nearest_to_each,
    open_embeddings,
    top_k,
    top_k_of_each,
)
from shiftproof.similarity.search import engines, int8
from shiftproof.similarity.search.options import parse_memory
from support.embedding_trees import clip_retrieval, unit_rows
from support.similar_rows import KINDS, TECHNIQUES, WIDTH, clustered, products, unit, use


def check_nearest(found, train, test):
    """The similarity to 1e-14 of float64's, the index where that leaves no doubt."""
    expected = products(train, test)
    np.testing.assert_array_equal(found.similarity, expected.max(axis=1).astype(np.float32))
    chosen = expected[np.arange(len(train)), found.index]
    assert (expected.max(axis=1) - chosen <= 1e-14).all()


@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_that_of_float64(way, seed):
    train, test = clustered(1100, seed), clustered(700, seed + 50)
    found = nearest(train, test, threads=1)
    check_nearest(found, train, test)
    assert found.certificate.products == 1100 * 700
    precision = "int8" if way in KINDS else way
    assert found.certificate.precision == precision
    bounds = {"fp32": 2e-5, "int8": 0.1, "fp16": 1e-3, "bf16": 1e-2}
    assert found.certificate.bound < bounds[precision]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (clustered(300, 1, outliers=1), clustered(300, 2, outliers=1)),
        (clustered(300, 1), -clustered(300, 2)),
        (unit_rows(1, 16, dtype=np.float32), unit_rows(1, 16, seed=1, dtype=np.float32)),
        (unit_rows(17, 7, dtype=np.float32), unit_rows(19, 7, seed=1, dtype=np.float32)),
        (unit_rows(9, 1, dtype=np.float32), unit_rows(5, 1, seed=1, dtype=np.float32)),
        (np.eye(33, dtype=np.float32), np.eye(33, dtype=np.float32)[::-1].copy()),
        (np.eye(33, dtype=np.float32), np.eye(33, dtype=np.float32)[[4]]),
    ],
    ids=["outlier-dimension", "opposite", "one", "odd-width", "width-1", "basis", "one-test-row"],
)
def test_nearest_of_odd_rows(way, train, test):
    check_nearest(nearest(train, test, threads=1), train, test)


def test_of_equal_test_rows_the_first_counts(way):
    test = clustered(200, 3)
    twice = np.concatenate([test, test[::-1]])
    found = nearest(clustered(300, 4), twice, threads=1)
    assert (found.index < 200).all()
    np.testing.assert_array_equal(nearest(test, twice, threads=1).index, np.arange(200))


def test_every_way_gives_the_same_bits(monkeypatch):
    train, test = clustered(900, 5), clustered(500, 6)
    results = []
    for way in TECHNIQUES:
        use(way, monkeypatch)
        results.append((nearest(train, test, threads=1), top_k(train, test, 7, threads=1)))
    for near, top in results[1:]:
        np.testing.assert_array_equal(near.similarity, results[0][0].similarity)
        np.testing.assert_array_equal(near.index, results[0][0].index)
        np.testing.assert_array_equal(top.similarity, results[0][1].similarity)
        np.testing.assert_array_equal(top.index, results[0][1].index)


def test_threads_shards_and_memory_change_nothing(tmp_path, way, monkeypatch):
    shards = {number: clustered(count, number) for number, count in enumerate((700, 1, 900))}
    train = open_embeddings(clip_retrieval(tmp_path, shards))
    test = clustered(600, 7)
    whole = nearest(train, test, threads=1)
    check_nearest(whole, np.concatenate(list(shards.values())), test)
    parts = [nearest(train, test, threads=1, shards=[number]) for number in range(3)]
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 130)
    for other in (
        nearest(train, test, threads=3),
        merge_nearest([merge_nearest(parts[:2]), parts[2]]),
        merge_nearest([parts[0], merge_nearest(parts[1:])]),
    ):
        np.testing.assert_array_equal(other.similarity, whole.similarity)
        np.testing.assert_array_equal(other.index, whole.index)
        assert other.certificate.products == whole.certificate.products


def test_several_test_sets_in_one_pass(way):
    train = clustered(600, 8)
    tests = {"a": clustered(90, 9), "b": clustered(300, 10)}
    together = nearest_to_each(train, tests, threads=1)
    for name, test in tests.items():
        check_nearest(together[name], train, test)
    of_each = top_k_of_each(train, tests, 2, threads=1)
    assert {name: found.index.shape for name, found in of_each.items()} == {
        "a": (90, 2),
        "b": (300, 2),
    }


def test_rows_that_were_skipped_have_no_neighbour(way):
    train = clustered(600, 11)
    broken = train.copy()
    broken[0], broken[5], broken[599] = np.nan, 0, 3
    found = nearest(open_embeddings(broken, unusable="skip"), train, threads=1)
    assert np.flatnonzero(np.isnan(found.similarity)).tolist() == [0, 5, 599]
    assert found.index[[0, 5, 599]].tolist() == [-1, -1, -1]
    assert found.certificate.skipped == 3
    top = top_k(open_embeddings(broken, unusable="skip"), train, 3, threads=1)
    assert not np.isin(top.index, [0, 5, 599]).any()


# ---------------------------------------------------------------- top k


def check_top(found, train, test, k):
    expected = products(test, train)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_allclose(
        found.similarity, np.take_along_axis(expected, order, axis=1), rtol=0, atol=1e-14
    )
    chosen = np.take_along_axis(expected, found.index, axis=1)
    np.testing.assert_allclose(found.similarity, chosen, rtol=0, atol=1e-14)
    assert all(len(set(row)) == k for row in found.index.tolist())


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("threads", [1, 3])
def test_top_k_is_that_of_float64(way, k, threads, monkeypatch):
    monkeypatch.setattr("shiftproof.similarity.questions.top_k.DENSE_ROWS", 300)
    train, test = clustered(3000, 12), clustered(200, 13)
    check_top(top_k(train, test, k, threads=threads), train, test, k)


def test_of_equal_training_rows_the_first_comes_first(way):
    train = clustered(700, 14)
    found = top_k(np.concatenate([train, train]), train[:50], 2, threads=2)
    np.testing.assert_array_equal(found.index, np.stack([np.arange(50), np.arange(50) + 700], 1))


def test_fewer_training_rows_than_k():
    train = clustered(3, 15)
    found = top_k(train, train[:2], 5)
    assert (found.index[:, 3:] == -1).all()
    assert np.isneginf(found.similarity[:, 3:]).all()
    assert (np.sort(found.index[:, :3], axis=1) == [0, 1, 2]).all()


def test_top_k_among_some_rows(way):
    train, test = clustered(800, 16), clustered(60, 17)
    keep = np.random.default_rng(0).random(800) < 0.3
    found = top_k(train, test, 3, keep=keep, threads=1)
    expected = np.where(keep, products(test, train), -9)
    np.testing.assert_allclose(found.similarity[:, 0], expected.max(axis=1), atol=1e-14)
    assert keep[found.index].all()


def test_top_k_of_shards_is_associative(tmp_path, way):
    shards = {number: clustered(300, number + 20) for number in range(3)}
    train = open_embeddings(clip_retrieval(tmp_path, shards))
    test = clustered(100, 24)
    whole = top_k(train, test, 5)
    a, b, c = (top_k(train, test, 5, shards=[number]) for number in range(3))
    for joined in (merge_top_k(merge_top_k(a, b), c), merge_top_k(a, merge_top_k(c, b))):
        np.testing.assert_array_equal(joined.similarity, whole.similarity)
        np.testing.assert_array_equal(joined.index, whole.index)


# ---------------------------------------------------------------- the bound


def check_sums(train, test, basis, kind, dimensions):
    """The bound holds for every pair, and the tile's maxima are those of the whole numbers."""
    low = int8.quantize_tests(test, basis, kind, dimensions)
    done, bound = int8.multiply(low, train, np.ones(len(train), dtype=bool), 0.0)
    whole = low.whole.reshape(-1, done.lanes, 16, low.whole.shape[2]).transpose(0, 2, 1, 3)
    whole = whole.reshape(-1, low.whole.shape[2]).astype(np.int64)
    sums = done.whole.astype(np.int64) @ whole[: len(test)].T + done.bias[: len(test)]
    above = done.scale * sums + done.reach[:, None]
    slack = (above - products(train, test))[done.chosen]
    assert slack.min() >= 0
    assert slack.max() <= 2 * bound + 1e-6
    padded = np.full((len(train), len(whole)), np.iinfo(np.int64).min)
    padded[:, : len(test)] = sums
    groups = padded.reshape(len(train), -1, 16, done.lanes).max(axis=2).reshape(len(train), -1)
    compared = (groups > np.iinfo(np.int64).min) & done.chosen[:, None]
    maxima = done.maxima[:, : groups.shape[1]]
    np.testing.assert_array_equal(maxima[compared], groups[compared])
    return done


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outliers", [0, 1])
@pytest.mark.parametrize("dimensions", [1, 32, 50, WIDTH])
def test_the_8_bit_sum_never_falls_below_the_product(kind, outliers, dimensions):
    train, test = clustered(200, 30, outliers=outliers), clustered(300, 31, outliers=outliers)
    check_sums(train, test, int8.Basis.compute(test, train), kind, dimensions)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_met_where_it_is_tight(kind):
    """In the plane some error of rounding always points along some row: nothing is to spare."""
    train, test = (unit_rows(400, 2, seed, np.float32) for seed in (1, 2))
    nothing = np.zeros(2, dtype=np.float32)
    check_sums(train, test, int8.Basis(nothing, nothing, np.eye(2)), kind, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_sums_that_may_occur_are_right(kind):
    """Whole numbers as large as they may be and products of one sign, in one step of each window.

    In every step they would be too large for the windows of AVX2, and are set aside there.
    """
    nothing = np.zeros(WIDTH, dtype=np.float32)
    basis = int8.Basis(nothing, nothing, np.eye(WIDTH))
    signs = np.sign(np.random.default_rng(0).normal(size=(64, WIDTH)))
    everywhere = unit(signs @ basis.make_matrix(WIDTH)[0].T)
    rows = unit((signs * (np.arange(WIDTH) % 32 < 4)) @ basis.make_matrix(WIDTH)[0].T)
    done = check_sums(np.concatenate([rows, -rows]), rows, basis, kind, WIDTH)
    assert done.chosen.all()
    low = int8.quantize_tests(everywhere, basis, kind, WIDTH)
    aside = int8.multiply(low, everywhere, np.ones(64, dtype=bool), 0.0)
    assert (aside is None) == (kind == "avx2")


def test_of_equal_test_rows_in_two_chunks_the_first_counts(way, monkeypatch):
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 100)
    test = clustered(100, 3)
    found = nearest(test, np.concatenate([test, test]), threads=1)
    np.testing.assert_array_equal(found.index, np.arange(100))


def test_16_bit_sums_cannot_overflow():
    """Rows made to be as large as they may be, all of one sign: the worst that may happen."""
    if "avx2" not in KINDS:
        pytest.skip("this processor has no AVX2")
    test = unit(np.sign(np.random.default_rng(0).normal(size=(64, WIDTH))))
    train = np.concatenate([test[:8], -test[:8], clustered(100, 1)])
    check_nearest(nearest(train, test, precision="int8", threads=1), train, test)


def test_a_tile_of_every_size_says_the_same():
    for count in (1, 2, 15, 16, 17, 127, 128, 129, 300):
        train, test = clustered(5, 1), clustered(count, 2)
        found = nearest(train, test, precision="int8", threads=1)
        check_nearest(found, train, test)


# ---------------------------------------------------------------- bad input


def test_widths_that_differ():
    with pytest.raises(InputError, match="have width 4, the rows of test 5"):
        nearest(unit_rows(3, 4), unit_rows(3, 5))


def test_an_empty_test_set():
    with pytest.raises(InputError, match="holds no rows"):
        nearest(unit_rows(3, 4), unit_rows(0, 4))
    with pytest.raises(InputError, match="at least one test set"):
        nearest_to_each(unit_rows(3, 4), {})


def test_a_test_row_that_cannot_be_used():
    test = unit_rows(3, 4, dtype=np.float32)
    test[1] = 0
    with pytest.raises(InputError, match="row 1 is all zeros"):
        nearest(unit_rows(3, 4), test)
    with pytest.raises(InputError, match="Row 1 of test set test cannot be used"):
        nearest(unit_rows(3, 4), open_embeddings(test, unusable="skip"))


def test_odd_settings():
    rows = unit_rows(3, 4)
    with pytest.raises(UnknownNameError, match="Did you mean 'fp32'"):
        nearest(rows, rows, precision="fp23")
    with pytest.raises(InputError, match="k of 1 or more, got 0"):
        top_k(rows, rows, 0)
    with pytest.raises(InputError, match="threads of 1 or more"):
        nearest(rows, rows, threads=0)
    with pytest.raises(InputError, match="1 MB of memory are too few"):
        nearest(rows, rows, memory="1MB")
    with pytest.raises(InputError, match=r"one value in keep for each row \(3\)"):
        top_k(rows, rows, 1, keep=np.ones(2, bool))
    with pytest.raises(InputError, match="at most 16384 for int8"):
        engines.choose_kind("int8", 20000, 9000)
    assert engines.choose_kind("auto", 20000, 9000) is None


def test_memory_is_read_as_people_write_it():
    assert [parse_memory(m) for m in (None, 5000, "2GB", "1.5 MiB", "7b")] == [
        4 * 10**9, 5000, 2 * 10**9, 1_500_000, 7,
    ]  # fmt: skip
    for odd in ("", "GB", "4 quarts", 0, -1, "inf"):
        with pytest.raises(InputError, match="Expected memory such as 4GB"):
            parse_memory(odd)


def test_nothing_that_the_caller_owns_is_changed():
    train, test = clustered(100, 40), clustered(50, 41)
    before = train.copy(), test.copy()
    nearest(train, test)
    top_k(train, test, 2)
    np.testing.assert_array_equal(train, before[0])
    np.testing.assert_array_equal(test, before[1])
