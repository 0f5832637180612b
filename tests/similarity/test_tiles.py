"""The tile for a processor with VNNI, on any: what it is compiled to, and what it works out."""

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
import scipy.linalg
from llvmlite import ir

from shiftproof.shards import Local
from shiftproof.similarity import Sharding, nearest, nearest_in_parts
from shiftproof.similarity.search import engines, kernels
from shiftproof.similarity.search.kernels import maxima as tiles
from support.similar_rows import KINDS, clustered, products, unit, use


def assembly(kind, cpu):
    """What LLVM makes of a tile for another processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = ir.Module()
    signature = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 7)
    function = ir.Function(module, signature, "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    tiles._write_tile(builder, kernels.TILES[kind], kind, list(function.args))
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, opt=3).emit_assembly(parsed)


@pytest.mark.skipif("x86" not in llvm.get_default_triple(), reason="instructions of x86")
def test_vnni_is_its_own_instruction_and_stays_in_registers():
    tile = kernels.TILES["vnni"]
    text = assembly("vnni", "znver4")
    assert text.count("vpdpbusd") == tile.rows * tile.vectors * kernels.WINDOW
    assert "rsp" not in text.split("vpdpbusd", 1)[1].rsplit("vpdpbusd", 1)[0]


def test_the_layout_of_vnni_with_the_arithmetic_of_any_processor(monkeypatch):
    # Two rows in place of six compile sooner; the test side is laid out as it is.
    tile = kernels.TileShape(rows=2, vectors=4, lanes=16, narrow=False)
    monkeypatch.setitem(kernels.TILES, "vnni", tile)
    multiply = tiles._build_tile("vnni", arithmetic="plain")

    @numba.njit
    def maxima(rows, tests, starts, bias, maxima):
        windows = tests.shape[2] // 8
        for span in range(tests.shape[0]):
            for tile in range(tests.shape[1]):
                for panel in range(rows.shape[0]):
                    multiply(
                        rows[panel].ctypes.data,
                        tests[span, tile].ctypes.data,
                        0,
                        bias[span, tile].ctypes.data,
                        maxima[panel, 0, span].ctypes.data,
                        maxima.strides[1],
                        windows,
                    )

    monkeypatch.setitem(kernels.MAXIMA, "vnni", maxima)
    monkeypatch.setattr("shiftproof.similarity.search.engines.choose_kind", lambda *_: "vnni")
    for count in (1, 255, 256, 700):
        train, test = clustered(303, 1), clustered(count, 2)
        found = nearest(train, test, threads=1)
        expected = products(train, test)
        np.testing.assert_array_equal(found.similarity, expected.max(axis=1).astype(np.float32))
        assert found.certificate.set_aside == 0


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        ({"avx2": True, "avx512vnni": True, "avx512bw": True}, "vnni"),
        ({"avx2": True, "avx512vnni": False, "avx512bw": True}, "avx2"),
        ({"avx2": False}, None),
        ({}, None),
    ],
)
def test_the_processor_decides(monkeypatch, features, kind):
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    assert kernels.fastest_kind() == kind
    assert engines.choose_kind("auto", 512, 20_000) == kind
    assert engines.choose_kind("int8", 512, 20_000) == (kind or "plain")
    assert engines.choose_kind("fp32", 512, 20_000) is None


@pytest.mark.parametrize(
    ("width", "tests", "eight_bits"),
    [
        (512, 2048, True), (512, 2047, False), (128, 3800, True), (128, 3600, False),
        (1280, 2000, False), (1280, 5120, True), (1, 4, False), (128, 1024, False),
    ],
)  # fmt: skip
def test_few_test_rows_are_compared_in_float32(monkeypatch, width, tests, eight_bits):
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: {"avx2": True})
    assert engines.choose_kind("auto", width, tests) == ("avx2" if eight_bits else None)
    assert engines.choose_kind("int8", width, tests) == "avx2"


@pytest.mark.parametrize(
    ("tests", "train", "k"), [(1024, 40_000, 0), (1024, 40_000, 10), (4096, 5000, 0)]
)
def test_where_8_bits_were_slower_auto_is_float32(monkeypatch, tests, train, k):
    """Rows of width 128: 1.85, 2.2 and 2.7 times the CPU time (search_kinds.json)."""
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: {"avx2": True})
    assert engines.choose_kind("auto", 128, tests, train, k) is None


@pytest.mark.parametrize(
    ("width", "tests", "train", "k", "eight_bits"),
    [
        (512, 10_000, 60_000, 0, True), (512, 10_000, 5_000, 0, False), (128, 2_000, 20_000, 0, False),
        (512, 4_000, 25_000, 10, False), (512, 4_000, 200_000, 10, True), (1280, 5_120, 10_000, 0, False),
        (128, 8_000, 60_000, 0, True),
    ],
)  # fmt: skip
def test_few_training_rows_are_compared_in_float32(monkeypatch, width, tests, train, k, eight_bits):
    """What was measured: making ready takes as long as 8 bits save over so many rows."""
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: {"avx2": True})
    assert engines.choose_kind("auto", width, tests, train, k) == ("avx2" if eight_bits else None)
    assert engines.choose_kind("int8", width, tests, train, k) == "avx2"


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_are_turned_by_a_hadamard_matrix(parts):
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(5, 64 * parts)).astype(np.float32)
    signs = draws.choice(np.array([-1, 1], np.float32), rows.shape[1])
    turned = np.empty_like(rows)
    kernels.mix(rows, signs, turned)
    turn = np.diag(signs) @ np.kron(scipy.linalg.hadamard(64) / 8, np.eye(parts))
    np.testing.assert_allclose(turned, rows @ turn, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_direction_are_searched_exactly(monkeypatch, kind):
    """All directions are kept of these, so that the fast turn is taken."""
    use(kind, monkeypatch)
    draws = np.random.default_rng(3)
    train, test = (unit(draws.normal(size=(count, 128)) + 0.1) for count in (300, 700))
    found = nearest(train, test, threads=1)
    assert (found.certificate.precision, found.certificate.dimensions) == ("int8", 128)
    assert found.certificate.candidates < found.certificate.products / 2
    expected = train.astype(np.float64) @ test.astype(np.float64).T
    np.testing.assert_array_equal(found.index, expected.argmax(axis=1))
    np.testing.assert_array_equal(found.similarity, expected.max(axis=1).astype(np.float32))


def test_the_whole_test_set_counts_wherever_it_is_cut(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "shiftproof.similarity.search.engines.choose_kind", lambda *given: asked.append(given)
    )
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 50)
    tests = {"a": clustered(130, 1), "b": clustered(20, 2)}
    nearest_in_parts(clustered(90, 3), tests, Sharding(tmp_path, Local(0), part_rows=50))
    assert set(asked) == {("auto", 96, 130, 90, 0), ("auto", 96, 20, 90, 0)}
