"""The benchmark of everything that runs on a GPU, run whole with tiny sizes on the processor."""

import json
import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch")

from shiftproof.corruptions import COMMON, HOLDOUT

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PEERS = {"lightly NTXentLoss", "kornia", "torchvision v2"}


@pytest.fixture
def main(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "gpu.py"))["main"]


def list_errors(found, place=()):
    """Return where in the result something went wrong, and what."""
    if not isinstance(found, dict):
        return []
    own = [(place, found["error"])] if "error" in found else []
    inner = [list_errors(value, (*place, key)) for key, value in found.items()]
    return own + [error for errors in inner for error in errors]


def test_every_part_runs(main, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    main(["--quick", "--device", "cpu", "--out", str(out)])
    result = json.loads(out.read_text())
    errors = list_errors(result)
    assert [error for error in errors if not PEERS & set(error[0])] == []
    assert list(result["parts"]) == [
        "corruptions", "bench", "adaptation", "similarity", "contrastive",
    ]  # fmt: skip
    corruptions = result["parts"]["corruptions"]
    assert list(corruptions["3 of 32x40"]["corruptions"]) == [*COMMON, *HOLDOUT]
    assert all(each["same_pixels_again"] for each in corruptions["parity"].values())
    for precision in ("fp16", "bf16"):
        equal = result["parts"]["similarity"][precision]["equal_to_the_processor"]
        assert equal == {"similarity": True, "index": True}
    assert json.loads(capsys.readouterr().out) == result


def test_a_part_that_fails_leaves_the_others(main, tmp_path, monkeypatch, capsys):
    import gpu_contrastive

    def fail(setting):
        raise RuntimeError("no memory")

    monkeypatch.setattr(gpu_contrastive, "measure", fail)
    main(["--quick", "--device", "cpu", "--parts", "contrastive", "adaptation"])
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert parts["contrastive"]["error"].startswith("RuntimeError in test_gpu_benchmark.py")
    assert "error" not in parts["adaptation"]


def test_sizes_of_a_gpu_are_refused_on_a_processor(main, capsys):
    with pytest.raises(SystemExit) as error:
        main(["--device", "cpu"])
    assert error.value.code == 2
    assert "say --quick" in capsys.readouterr().err
