"""The executor on a real Ray of this machine: the same bytes, a killed worker, a killed driver."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shiftproof.errors import InputError, MissingExtraError, RunError
from shiftproof.shards import Local, PartFolder, Ray, on_ray, run_shards
from support.counting_job import contents, counting, driver_with_parts

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason='Ray is not installed: python -m pip install "shiftproof[ray]"',
)


@pytest.fixture(autouse=True)
def _workers_find_the_tests_helpers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def expected(tmp_path):
    run_shards(counting(), tmp_path / "expected", Local(0))
    return contents(tmp_path / "expected")


@with_ray
def test_on_ray_a_killed_worker_costs_nothing_and_no_byte_differs(tmp_path, expected):
    import ray

    before = dict(os.environ)
    run_shards(counting(die=str(tmp_path / "died")), tmp_path / "parts", Ray(workers=1))
    assert (tmp_path / "died").exists()
    assert contents(tmp_path / "parts") == expected
    assert not ray.is_initialized()
    assert dict(os.environ) == before


@with_ray
def test_a_ray_that_the_caller_started_is_used_and_left(tmp_path):
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with pytest.raises(ValueError, match="shard 2 cannot be read"):
            run_shards(counting(broken=[2]), tmp_path / "parts", Ray(workers=1))
        assert PartFolder(tmp_path / "parts", 8).missing()[0] == 2
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@with_ray
def test_a_killed_driver_of_ray_costs_the_shards_under_way(tmp_path, expected):
    folder = tmp_path / "parts"
    with driver_with_parts(folder, "Ray(workers=1)", 2) as driver:
        driver.kill()
    assert 0 < len(PartFolder(folder, 8).missing()) <= 6
    run_shards(counting(), folder, Local(1))
    assert contents(folder) == expected


def test_a_shard_that_kills_every_worker_is_named():
    ray = SimpleNamespace(exceptions=SimpleNamespace(RayTaskError=KeyError, RayError=OSError))

    def get(_):
        raise OSError("The worker died unexpectedly.\nMore of it.")

    ray.get = get
    with pytest.raises(RunError, match=r"Shard 3 took its worker down 3 times.*unexpectedly\.$"):
        on_ray._result(ray, None, 3)


def test_a_ray_that_does_not_start_is_tried_again():
    tried, ended = [], []

    def init(**options):
        tried.append(options)
        raise Exception("The current node timed out during startup.")

    ray = SimpleNamespace(init=init, shutdown=lambda: ended.append(1))
    with pytest.raises(RunError, match=r"started \(on this machine\): The current node timed out"):
        Ray(workers=2)._start(ray)
    assert [options["num_cpus"] for options in tried] == [2, 2, 2]
    with pytest.raises(RunError, match=r"reached or started \(ray://nowhere:1\)"):
        Ray("ray://nowhere:1")._start(ray)
    assert (len(tried), len(ended)) == (4, 4)
    assert tried[-1]["address"] == "ray://nowhere:1"


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"shiftproof\[ray\]"):
        run_shards(counting(1), tmp_path / "parts", Ray())


def test_no_workers_on_ray():
    with pytest.raises(InputError, match="1 worker or more"):
        Ray(workers=0)
