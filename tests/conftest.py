"""Configuration of the suite, and fixtures shared by several folders."""

import atexit
import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

# Small tensors gain nothing from more threads, and threads that wait cost time. Here, because torch
# and the libraries of linear algebra read it when they are imported, those of other processes too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# numba sets the threads of OpenMP, torch's among them, to its own number when it first counts them:
# every test of torch that follows in the process then takes up to twenty times as long.
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

# Some environments ask for no bytecode. Every worker then translates all files of tests anew, and each of
# the many processes that tests start the whole package. Bytecode lies beside the compiled loops, which
# are written anyhow.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What is there when a worker ends is left to the system, not looked through for garbage.
atexit.register(gc.freeze)

MEMORY = Path("/dev/shm")
"""The file system of Linux that is memory: to make and remove a file costs half the time there."""

ROOM = 6 * 10**9
"""Bytes; a run has some hundred MB at a time, as the files of a passed test are removed."""


def find_room_in_memory():
    """Return whether files of tests fit into memory, as they do not in a container's 64 MB."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM:
        return False
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > ROOM


# ``PYTEST_DEBUG_TEMPROOT`` and ``--basetemp`` name another folder.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and find_room_in_memory():
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)

FILES_FOR_WORKERS = 12
"""A run of fewer files ends before further workers have imported what they need."""

TESTS = Path(__file__).parent

NETWORKS = {
    *("adapt", "contracts", "contrastive", "embed", "integrations", "models", "probe", "reproduce"),
}
"""Folders of tests most of which run networks of torch."""

MAX_WORKERS = 9
"""Each imports torch and makes the fixtures of its tests anew."""


def count_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Share many files out to one process more than there are cores, as tests of other processes wait.

    Any ``-n``, as ``-n 0``, or ``-p no:xdist`` says otherwise.
    """
    option = config.option
    is_free = getattr(option, "numprocesses", 0) is None and option.dist == "no"
    is_worker = hasattr(config, "workerinput")
    if is_free and not is_worker and count_files(config.args) >= FILES_FOR_WORKERS:
        # Stealing keeps neighbouring tests together, and with them the fixtures of their file.
        option.numprocesses = min(count_cores() + 1, option.maxprocesses or MAX_WORKERS)
        option.dist = "worksteal"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection():
    """Import and collect without the garbage collector, and keep what is there out of its later passes.

    Millions of objects of imported libraries and of tests otherwise cost a third of the collection.
    Tests that make many small objects, as trees of a page, spend another eighth on looking for
    garbage: rarer is enough.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Keep the tests of a folder together, those of networks first; within a folder any order stays.

    Workers begin with half of the list each. What torch, transformers and exporters import and
    compile when they are first used, and what is made once a session, is then done by one of them.
    What is taken over in the end is from the middle of the list, where no test is long.
    """
    folders = {item.path.parent for item in items}
    places = {folder: place_folder(folder) for folder in folders}
    items.sort(key=lambda item: places[item.path.parent])


def seed_torch(seed):
    """Seed torch's global generator, as pytest-randomly seeds those of numpy and Python.

    In a new process it begins anywhere, and goes on from test to test: without a seed, the weights of
    a network are others in every run.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        # Not torch.manual_seed: before CUDA is used it keeps the stack of every call.
        torch.default_generator.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Seed it for the fixtures of a test, those that others share too."""
    seed_torch(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Seed it for the test, whether its fixtures were there already or not."""
    seed_torch(1)


def place_folder(folder):
    name = folder.relative_to(TESTS).as_posix() if folder.is_relative_to(TESTS) else ""
    return name not in NETWORKS, name


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Let a worker tell the main process of a passed test by one message in place of five.

    Left out are the beginning and the end, and a setup or teardown that passed, printed nothing and
    was too short for ``--durations``. Each message costs both processes a third of a millisecond.
    """
    if not hasattr(item.config, "workerinput") or item.config.option.xmlpath:
        return None  # the file of --junitxml is made from the reports of teardowns
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        if not is_trivial(report):
            item.ihook.pytest_runtest_logreport(report=report)
    return True


LONG = 0.005
"""Seconds; what is shorter is not shown by ``--durations`` either."""


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config):
    """Let the main process of workers end without looking for garbage, as no test has run in it."""
    if getattr(config.option, "numprocesses", None):
        gc.freeze()


def is_trivial(report):
    says_nothing = report.passed and not report.sections and not report.user_properties
    return report.when != "call" and says_nothing and report.duration < LONG


def count_files(arguments):
    paths = [Path(argument.partition("::")[0]) for argument in arguments]
    return sum(len(list(path.rglob("test_*.py"))) if path.is_dir() else 1 for path in paths)


@pytest.fixture(autouse=True, scope="session")
def _one_core():
    """What takes its number of processes from the machine starts one, as a test may name another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread_of_onnx_runtime():
    """Its threads wait busily: a second one doubles the time, and takes the other worker's core."""
    try:
        import onnxruntime
    except ImportError:
        yield
        return

    class Options(onnxruntime.SessionOptions):
        def __init__(self):
            super().__init__()
            self.intra_op_num_threads = 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "SessionOptions", Options)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk():
    """Files need not outlive the machine, and each would wait for the disk. Tests of that undo it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def image_text_models(tmp_path_factory):
    """A folder of tiny models of OpenCLIP and transformers, saved by the libraries themselves."""
    pytest.importorskip("transformers", exc_type=ImportError)
    pytest.importorskip("open_clip", exc_type=ImportError)
    from support import image_text

    folder = tmp_path_factory.mktemp("image-text")
    image_text.write_all(folder)
    return folder


@pytest.fixture
def one_thread():
    """Let torch add up in one order, whatever number of threads was asked for."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
