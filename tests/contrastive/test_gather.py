import json

import numpy as np
import torch

from support import gathering
from support.forked import start_process, wait_for


def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path):
    outs = [tmp_path / f"{rank}.json" for rank in (0, 1)]
    processes = [
        start_process(gathering.write_shared, rank, 2, tmp_path / "store", out)
        for rank, out in enumerate(outs)
    ]
    assert wait_for(*processes) == [0, 0]
    first, second = (json.loads(out.read_text()) for out in outs)
    assert first["found"] == second["found"]
    for name, results in first["found"].items():
        with torch.random.fork_rng(devices=[]):
            expected = gathering.loss_and_gradients(name.partition("/")[0])
        for ours, theirs in zip(results, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
    assert "same number of pairs in every process, got [2, 3]" in first["uneven"]
    # A mean of 1,000 costs float32 nothing that distances see.
    alone = gathering.far_gradients().numpy()
    for ours in zip(first["far"], second["far"], strict=True):
        np.testing.assert_allclose(np.concatenate(ours), alone, atol=1e-5 * np.abs(alone).max())
