import pytest

from support import finished_runs
from support.few_resamples import set_replicates


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A finished run of each kind, by its folder's name."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        set_replicates(patch, 20)
        finished_runs.run_classifier(root, root / "classifier")
        finished_runs.run_detector(root, root / "detector")
        finished_runs.run_own_task(root / "own")
        finished_runs.run_probe(root / "probe")
        finished_runs.run_audit(root / "audit")
    return root
