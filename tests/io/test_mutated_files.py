"""Small real files, changed at random: one clear error or a reading, whatever was changed.

The long form is ``benchmarks/mutate_readers.py``, which also looks at memory and time.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "mutate_readers.py"

HELD = (
    "image", "npy", "npz", "yaml", "job-parts", "tar-embed", "tar-corrupt", "tar-labels",
    "saved-datasets", "packed-parquet",
    "embeddings-resumed", "run-resumed", "run-page", "copy-resumed", "audit-page", "probe-readings",
    "detection-records", "result-tables", "csv", "class-maps", "names", "adapters", "styles", "frost",
)  # fmt: skip


def load_trial():
    sys.path.insert(0, str(FILE.parent))
    spec = importlib.util.spec_from_file_location("mutate_readers", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate_readers"] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(FILE.parent))
    return module


trial = load_trial()


@pytest.mark.parametrize("name", HELD)
def test_a_changed_file_is_refused_by_name_or_read(name, tmp_path):
    reader = trial.READERS[name]
    files = trial.make_pristine(reader, tmp_path / "pristine")
    reader.read(tmp_path / "pristine")
    outcomes = []
    for number in range(5 if reader.slow else 25):
        outcome, detail = trial.try_one(reader, tmp_path / "pristine", files, f"suite {number}")
        assert outcome in trial.GOOD, f"change {number}: {detail}"
        outcomes.append(outcome)
    assert "error" in outcomes


def test_every_kind_of_change_changes_something():
    import random

    data = b'{"a": [1, 22, {"b": "text"}], "c": 3.5}'
    changed = {trial.change(data, random.Random(number)) for number in range(200)}
    assert len(changed) > 150
