"""Every long verb by two commands over one folder: the same bytes as by one."""

import pytest

from shiftproof.errors import UnfinishedError
from shiftproof.shards import Scheduled
from support import tiny
from support.long_verbs import VERBS
from support.run_files import everything
from support.sent import Sent


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr("shiftproof.metrics.intervals.REPLICATES", 20)


@pytest.mark.parametrize("verb", VERBS)
def test_two_workers_write_what_one_command_writes(verb, tmp_path):
    photos = tiny.write_photos(tmp_path / "photos", per_class=3)
    VERBS[verb](photos, tmp_path / "one", None)
    with pytest.raises(UnfinishedError, match=r"\(of worker 0, --of 2\)"):
        VERBS[verb](photos, tmp_path / "shared", Scheduled(1, 2, 0))
    VERBS[verb](photos, tmp_path / "shared", Scheduled(0, 2, 0))
    assert everything(tmp_path / "shared") == everything(tmp_path / "one")


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_sent_through_bytes_comes_back_the_same(verb, tmp_path):
    photos = tiny.write_photos(tmp_path / "photos", per_class=3)
    VERBS[verb](photos, tmp_path / "here", None)
    VERBS[verb](photos, tmp_path / "there", Sent())
    assert everything(tmp_path / "there") == everything(tmp_path / "here")
