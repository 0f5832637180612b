import dataclasses
import time

import numpy as np
import pytest
import torch

from shiftproof.contrastive.optimizers import LARS
from shiftproof.contrastive.train import Training, train
from shiftproof.errors import BrokenFileError, InputError, RunError, RunMismatchError
from support import small_encoders
from support.forked import start_process, wait_for
from support.small_encoders import TRAINING, fresh, numbers, run


def test_it_learns():
    trained = run(training=dataclasses.replace(TRAINING, steps=200, check_every=50))
    losses = [check.loss for check in trained.history]
    assert [check.step for check in trained.history] == [50, 100, 150, 200]
    assert losses == sorted(losses, reverse=True)
    # An encoder without training has the loss of no information, the logarithm of 1 + 126 / 1.
    assert losses[-1] < 0.7 * np.log(127)
    assert trained.figures == trained.history[-1].figures
    assert trained.stopped == "steps"
    assert not trained.encoder.training


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lars"])
@pytest.mark.parametrize("stop", [3, 25, 40])
def test_an_interrupted_training_ends_with_the_same_numbers(optimizer, stop, tmp_path):
    training = dataclasses.replace(TRAINING, optimizer=optimizer, rate=3e-3, warm_up=0.2)
    through = numbers(run(tmp_path / "a.safetensors", training))

    class Stopped(Exception):
        pass

    def until(step):
        if step == stop:
            raise Stopped
        return small_encoders.batches(step)

    with pytest.raises(Stopped):
        run(tmp_path / "b.safetensors", training, until)
    torch.rand(3)
    steps = []

    def counted(step):
        steps.append(step)
        return small_encoders.batches(step)

    again = numbers(run(tmp_path / "b.safetensors", training, counted))
    assert steps == list(range(stop // 10 * 10, 60))
    assert again == through


def test_a_process_that_is_killed_goes_on_to_the_same_numbers(tmp_path):
    # Both in processes of their own: this one may have other threads, and so other last bits.
    cut = tmp_path / "c.safetensors", tmp_path / "out.json"
    through = tmp_path / "t.safetensors", tmp_path / "through.json"
    process = start_process(small_encoders.write_numbers, cut)
    deadline = time.monotonic() + 240
    while not cut[0].exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert cut[0].exists()
    # Unless it was through before the signal came.
    pairs = [through] if cut[1].exists() else [cut, through]
    assert wait_for(start_process(small_encoders.write_numbers, *pairs)) == [0]
    assert cut[1].read_bytes() == through[1].read_bytes()


def test_a_finished_training_is_not_done_again(tmp_path):
    first = run(tmp_path / "a.safetensors")
    again = run(tmp_path / "a.safetensors", batches=None)
    assert numbers(again) == numbers(first)
    assert again.seconds == first.seconds


def test_it_stops_early_and_stays_stopped(tmp_path):
    at_target = run(tmp_path / "a.safetensors", dataclasses.replace(TRAINING, target=0.0))
    assert (at_target.stopped, at_target.history[-1].step) == ("target", 10)
    again = run(tmp_path / "a.safetensors", dataclasses.replace(TRAINING, target=0.0), None)
    assert again.stopped == "target"
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.45, 0.6])
    encoder, loss = fresh()
    impatient = train(
        encoder,
        loss,
        small_encoders.batches,
        dataclasses.replace(TRAINING, patience=2, watch="figure"),
        measure=lambda encoder, loss: {"figure": next(scores)},
    )
    assert (impatient.stopped, impatient.history[-1].step) == ("patience", 40)


def test_the_precision_is_held_as_long_as_it_is_told():
    encoder, loss = fresh()
    seen = []

    def measure(encoder, loss):
        seen.append(loss.precision.tolist())
        return {}

    train(
        encoder,
        loss,
        small_encoders.batches,
        dataclasses.replace(TRAINING, hold=20, steps=40),
        measure=measure,
    )
    np.testing.assert_allclose(seen[:2], 5.0, rtol=1e-6)
    assert min(abs(value - 5.0) for value in seen[2]) > 1e-4


def test_steps_of_sgd_are_torchs_and_those_of_lars_as_long_as_the_weights_allow():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = LARS([weight, bias], lr=2.0, momentum=0.5, weight_decay=0.1, trust=0.01)
    weight.grad, bias.grad = torch.tensor([[0.7, -0.4]]), torch.tensor([0.3])
    optimizer.step()
    # With decay the pull is (1, 0); its length is made 0.01 x 5.
    torch.testing.assert_close(weight.detach(), torch.tensor([[3 - 2 * 0.05, 4.0]]))
    torch.testing.assert_close(bias.detach(), torch.tensor([1 - 2 * 0.3]))
    weight.grad, bias.grad = torch.zeros(1, 2), torch.tensor([0.0])
    before = weight.detach().clone()
    optimizer.step()
    pull = 0.01 * before.norm() * before / before.norm()
    torch.testing.assert_close(
        weight.detach(), before - 2 * (0.5 * torch.tensor([[0.05, 0.0]]) + pull)
    )
    torch.testing.assert_close(bias.detach(), torch.tensor([1 - 2 * 0.3 - 2 * 0.5 * 0.3]))


def test_rates_rise_and_fall():
    training = Training(steps=100, warm_up=0.1, cool_down=0.5)
    shares = [training.share(step) for step in range(100)]
    assert shares[0] == pytest.approx(1 / 11)
    assert shares[10:50] == [1.0] * 40
    assert shares[75] == pytest.approx(0.5)
    assert 0 < shares[99] < 0.001
    assert Training(steps=10).share(9) == 1.0


def test_views_of_different_shapes_are_embedded_one_by_one():
    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(2))

        def forward(self, batch):
            return self.scale * batch.mean(1)

    from shiftproof.contrastive import AnInfoNCE

    def batches(step):
        torch.manual_seed(step)
        return torch.rand(8, 3, 2), torch.rand(8, 5, 2)

    with torch.random.fork_rng(devices=[]):
        trained = train(Mean(), AnInfoNCE(2), batches, Training(steps=2, check_every=1))
    assert len(trained.history) == 2


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    run()
    assert torch.equal(torch.rand(2), expected)


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(tmp_path):
    path = tmp_path / "a.safetensors"
    run(path)
    with pytest.raises(RunMismatchError, match="other settings"):
        run(path, dataclasses.replace(TRAINING, rate=0.5))
    with pytest.raises(RunMismatchError, match="other settings"):
        run(path, about={"seed": 1})
    path.write_bytes(b"damaged")
    with pytest.raises(BrokenFileError, match="Remove it"):
        run(path)


def test_a_file_that_something_else_wrote_is_called_so(tmp_path):
    from safetensors.torch import save_file

    from shiftproof.adapt.base.state import save_state

    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(BrokenFileError, match="something else wrote") as raised:
        run(path)
    assert "adapter" not in str(raised.value)
    save_state({"weight": torch.ones(2)}, {"name": "batchnorm"}, path)
    with pytest.raises(BrokenFileError, match="something else wrote"):
        run(path)


def test_a_loss_that_is_not_finite_ends_it():
    class Broken(torch.nn.Module):
        def forward(self, u, v):
            return u.sum() * torch.inf

    with pytest.raises(RunError, match="no longer finite by step 10"):
        train(fresh()[0], Broken(), small_encoders.batches, TRAINING)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"check_every": 0}, "check_every"),
        ({"patience": 0}, "patience"),
        ({"rate": 0}, "rates above 0"),
        ({"warm_up": 0.7, "cool_down": 0.5}, "together at most 1"),
        ({"watch": "r3", "target": 1.0}, "'r3' is not measured; measured are r2"),
        ({"optimizer": "adm"}, "Did you mean 'adam'"),
    ],
)
def test_wrong_settings_are_said_in_a_sentence(settings, said):
    with pytest.raises(InputError, match=said):
        run(training=dataclasses.replace(TRAINING, **settings))
