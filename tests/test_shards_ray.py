"""Work on a real Ray cluster of two machines, both of them here: no byte differs, nothing is lost."""

import importlib.util
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shiftproof.errors import InputError, MissingExtraError, RunError
from shiftproof.shards import Job, Local, PartFolder, Ray, on_ray, run_shards
from support import machines, tiny
from support.counting_job import contents, counting, driver_with_parts, list_processes
from support.few_resamples import set_replicates
from support.long_verbs import VERBS
from support.run_files import everything

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason='Ray is not installed: python -m pip install "shiftproof[ray]"',
)

# GPUs are counted by Ray alone, which need not be there.
SMALL = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 10**6}


@pytest.fixture(autouse=True, scope="module")
def _workers_find_the_tests_helpers():
    with pytest.MonkeyPatch.context() as patch:
        places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        for name, value in on_ray._ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cluster(_workers_find_the_tests_helpers):
    """Two machines of one core each."""
    import ray

    started = machines.start_cluster(SMALL)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def joined(cluster):
    """Ray as the caller has begun it; it stays, as do its workers, which take seconds to start."""
    import ray

    if not ray.is_initialized():
        ray.init(cluster.address, log_to_driver=False, logging_level="error")
    return cluster


@pytest.fixture
def apart(cluster):
    """The cluster, which this process has not joined."""
    import ray

    ray.shutdown()
    return cluster


@pytest.fixture
def expected(tmp_path):
    run_shards(counting(), tmp_path / "expected", Local(0))
    return contents(tmp_path / "expected")


# ---------------------------------------------------------------- a job of shards


@with_ray
def test_on_a_cluster_a_killed_worker_costs_nothing_and_no_byte_differs(apart, tmp_path, expected):
    import ray

    before = dict(os.environ)
    job = counting(die=str(tmp_path / "died"))
    run_shards(job, tmp_path / "parts", Ray(apart.address))
    assert (tmp_path / "died").exists()
    assert contents(tmp_path / "parts") == expected
    assert not ray.is_initialized()
    assert dict(os.environ) == before


@with_ray
@pytest.mark.usefixtures("joined")
def test_a_ray_that_the_caller_started_is_used_and_left(tmp_path):
    import ray

    with pytest.raises(ValueError, match="shard 2 cannot be read"):
        run_shards(counting(broken=[2]), tmp_path / "parts", Ray(workers=1))
    assert PartFolder(tmp_path / "parts", 8).missing()[0] == 2
    assert ray.is_initialized()


@with_ray
@pytest.mark.usefixtures("joined")
@pytest.mark.parametrize("gpus", [0, 1])
def test_a_process_goes_on_to_the_next_part_with_what_it_has_imported(gpus, tmp_path):
    # Two, and one more where a machine that another test has just lost takes one along.
    assert len(list_processes(tmp_path / "parts", 6, Ray(workers=2, gpus=gpus))) <= 3


@with_ray
@pytest.mark.usefixtures("joined")
def test_a_killed_worker_with_a_gpu_costs_nothing(tmp_path, expected):
    run_shards(counting(die=str(tmp_path / "died")), tmp_path / "parts", Ray(gpus=1))
    assert (tmp_path / "died").exists()
    assert contents(tmp_path / "parts") == expected


@with_ray
def test_a_killed_driver_of_ray_costs_the_shards_under_way(cluster, tmp_path, expected):
    folder = tmp_path / "parts"
    with driver_with_parts(folder, f"Ray({cluster.address!r}, workers=1)", 2) as driver:
        driver.kill()
    assert 0 < len(PartFolder(folder, 8).missing()) <= 6
    run_shards(counting(), folder, Local(0))
    assert contents(folder) == expected


@with_ray
@pytest.mark.parametrize("gpus", [0, 1])
def test_a_machine_that_joins_late_works_and_its_loss_costs_nothing(gpus, joined, tmp_path):
    import ray

    known = [node["NodeID"] for node in ray.nodes()]
    context = {"known": known, "folder": str(tmp_path)}
    job = Job("parts", machines.need_another_machine, context, 4, {})
    backend = Ray(gpus=gpus)
    running = threading.Thread(target=run_shards, args=(job, tmp_path / "parts", backend))
    running.start()
    machines.wait_for(tmp_path / "begun-0")
    late = machines.add_machine(joined, SMALL)
    machines.wait_for(tmp_path / "joined")
    joined.remove_node(late, allow_graceful=False)
    running.join(machines.PATIENCE)
    parts = PartFolder(tmp_path / "parts", 4)
    assert [part["values"].tolist() for part in parts.each()] == [
        [shard, shard + 1, shard + 2] for shard in range(4)
    ]


# ---------------------------------------------------------------- the verbs


@pytest.fixture
def on_cluster(joined, monkeypatch):
    set_replicates(monkeypatch, 20)
    return Ray()


@with_ray
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_on_the_cluster_writes_what_it_writes_here(verb, on_cluster, tmp_path):
    photos = tiny.write_photos(tmp_path / "photos", per_class=3)
    VERBS[verb](photos, tmp_path / "here", None)
    VERBS[verb](photos, tmp_path / "there", on_cluster)
    assert everything(tmp_path / "there") == everything(tmp_path / "here")


@with_ray
def test_images_that_only_the_driver_sees_are_no_broken_images(on_cluster, tmp_path, monkeypatch):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)

    def hide(*_):
        photos.rename(tmp_path / "away")

    grid_run = importlib.import_module("shiftproof.bench.grid.grid_run")
    monkeypatch.setattr(grid_run, "warn_about_settings", hide)
    with pytest.raises(
        RunError, match="a machine of the cluster, cannot access the images: blue/0"
    ):
        VERBS["bench"](photos, tmp_path / "run", on_cluster)
    assert not list((tmp_path / "run").rglob("*.parquet"))


# ---------------------------------------------------------------- what can go wrong


def test_a_shard_that_kills_every_worker_is_named():
    with pytest.raises(RunError, match=r"Shard 3 crashed its worker 3 times.*unexpectedly\.$"):
        on_ray._get_part(ray_that_raises(OSError("The worker died unexpectedly.\nMore.")), None, 3)


def test_a_part_outlives_the_object_store():
    store = np.arange(6)
    ray = SimpleNamespace(get=lambda _: {"values": store[2:]})
    [(name, part)] = on_ray._get_part(ray, None, 0).items()
    store[:] = 0  # as when its memory is unmapped
    assert (name, part.tolist(), part.base) == ("values", [2, 3, 4, 5], None)


def test_a_machine_without_the_package_is_told_from_a_fault_of_the_work():
    lacking = ModuleNotFoundError("No module named 'shiftproof'", name="shiftproof")
    error = KeyError()
    error.cause = lacking
    with pytest.raises(RunError, match=r"of the cluster has no shiftproof\. Install shiftproof"):
        on_ray._get_part(ray_that_raises(error), None, 0)


def ray_that_raises(error):
    def get(_):
        raise error

    return SimpleNamespace(
        exceptions=SimpleNamespace(RayTaskError=KeyError, RayError=OSError), get=get
    )


@with_ray
def test_another_version_on_a_machine_is_refused():
    reference = SimpleNamespace(hex=lambda: "of this test")
    with pytest.raises(RunError, match=r"was started with 0\.0\.1\. Install the same version"):
        on_ray._compute(on_ray._SentJob([reference], "", "0.0.1"), 0)


def test_a_ray_that_does_not_start_is_tried_again():
    tried, ended = [], []

    def init(**options):
        tried.append(options)
        raise Exception("The current node timed out during startup.")

    ray = SimpleNamespace(init=init, shutdown=lambda: ended.append(1))
    with pytest.raises(RunError, match=r"started \(on this machine\): The current node timed out"):
        Ray(workers=2)._start(ray)
    assert [options["num_cpus"] for options in tried] == [2, 2, 2]
    # Without it Ray joins whatever cluster was begun on this machine.
    assert {options["address"] for options in tried} == {"local"}
    with pytest.raises(RunError, match=r"reached or started \(auto\)"):
        Ray("auto")._start(ray)
    assert (len(tried), len(ended)) == (4, 4)
    assert tried[-1]["address"] == "auto"


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer_is_told_at_once(address):
    ray = SimpleNamespace(init=None, shutdown=None)
    with pytest.raises(InputError, match=f"^Nothing answers at {address} .*Expected the address"):
        Ray(address)._start(ray)


def test_more_gpus_than_the_cluster_has_are_refused():
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 4.0, "GPU": 1.0})
    on_ray._check_gpus(ray, 0.5)
    with pytest.raises(InputError, match="requests 2 GPUs, and the cluster has 1 in all"):
        on_ray._check_gpus(ray, 2)


def test_tasks_at_a_time_follow_the_machines_that_are_there():
    there = {"CPU": 2.0}
    ray = SimpleNamespace(cluster_resources=lambda: there)
    assert on_ray._count_tasks(ray, Ray()) == 2
    there |= {"CPU": 6.0, "GPU": 2.0}
    assert on_ray._count_tasks(ray, Ray()) == 6
    assert on_ray._count_tasks(ray, Ray(gpus=0.5)) == 4
    assert on_ray._count_tasks(ray, Ray(workers=3)) == 3
    # More would wait for each other's GPUs.
    assert on_ray._count_tasks(ray, Ray(workers=3, gpus=1)) == 2


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"shiftproof\[ray\]"):
        run_shards(counting(1), tmp_path / "parts", Ray())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"workers": 0}, "1 worker or more"), ({"gpus": -1}, "0 GPUs"), ({"gpus": np.nan}, "0 GPUs")],
)
def test_numbers_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Ray(**options)
