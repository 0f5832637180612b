import fsspec
import pytest

from shiftproof.io import placeholders, remote
from shiftproof.storage import copies
from support.stores import picture, serve_s3


@pytest.fixture(scope="session")
def s3():
    """One server for all tests of stores, with the bucket ``lab``."""
    with serve_s3("lab") as system:
        for number in range(4):
            system.pipe_file(f"lab/photos/{number}.png", picture(number))
        yield system


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(placeholders.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0)
    return tmp_path / "cache"


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def fetched(monkeypatch):
    """The URLs whose content was fetched."""
    asked = []
    fetch = copies.fetch

    def note(url, *rest):
        asked.append(url)
        fetch(url, *rest)

    monkeypatch.setattr(copies, "fetch", note)
    return asked
