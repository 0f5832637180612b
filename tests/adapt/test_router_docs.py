"""docs/adaptation.md: its tables are those that were measured."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adaptation.md").read_text(encoding="utf-8")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name):
        result = json.loads(
            (ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")
        )
        return runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py")), result

    return load


def shown(name):
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)[1].strip()


@pytest.mark.parametrize("part", ["hold-out", "reported"])
def test_the_router_s_tables(benchmark, part):
    module, result = benchmark("router")
    assert shown(f"router {part}") == module["make_table"](result, part)


def test_what_the_router_costs(benchmark):
    module, result = benchmark("router")
    assert shown("router cost") == module["make_cost_line"](result["cost"])


def test_the_tables_of_batch_sizes(benchmark):
    module, result = benchmark("batch_sizes")
    assert shown("batch-sizes") == module["make_tables"](result["rows"]).strip()


def test_the_table_of_times(benchmark):
    module, result = benchmark("adaptation")
    assert shown("speed") == module["make_table"](result["results"])
    assert result["medians"] == module["find_medians"](result["results"])


def test_the_table_of_long_streams(benchmark):
    module, result = benchmark("soak")
    assert shown("soak") == module["make_table"](result["results"])
