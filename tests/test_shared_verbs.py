"""Every long verb by two commands over one folder: the same bytes as by one."""

import functools

import pytest

from shiftproof.errors import UnfinishedError
from shiftproof.shards import Scheduled
from support import tiny
from support.few_resamples import set_replicates
from support.long_verbs import VERBS
from support.run_files import everything
from support.sent import Sent


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    set_replicates(monkeypatch, 20)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.write_photos(tmp_path_factory.mktemp("photos"), per_class=3)


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """What one command writes, by the verb; each is run once."""

    @functools.cache
    def write(verb):
        folder = tmp_path_factory.mktemp(verb) / "one"
        VERBS[verb](photos, folder, None)
        return everything(folder)

    return write


@pytest.mark.parametrize("verb", VERBS)
def test_two_workers_write_what_one_command_writes(verb, photos, expected, tmp_path):
    with pytest.raises(UnfinishedError, match=r"\(of worker 0, --of 2\)"):
        VERBS[verb](photos, tmp_path / "shared", Scheduled(1, 2, 0))
    VERBS[verb](photos, tmp_path / "shared", Scheduled(0, 2, 0))
    assert everything(tmp_path / "shared") == expected(verb)


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_sent_through_bytes_comes_back_the_same(verb, photos, expected, tmp_path):
    VERBS[verb](photos, tmp_path / "there", Sent())
    assert everything(tmp_path / "there") == expected(verb)
