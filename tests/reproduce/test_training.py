import dataclasses

import numpy as np
import pytest
import torch

from shiftproof_reproduce import fashion, training
from shiftproof_reproduce.network import build_network, wrap_classifier
from shiftproof_reproduce.training import Training, draw_batches, one_cycle, train
from support.tiny_fashion import TRAINING, write_fashion


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return fashion.load(write_fashion(tmp_path_factory.mktemp("fashion"), train=200))


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_an_interrupted_training_ends_with_the_same_weights(data, tmp_path, monkeypatch):
    arrays = data.train_images, data.train_labels
    through = weights(train(*arrays, tmp_path / "a.pt", TRAINING))

    class Stopped(Exception):
        pass

    epochs = []
    batches = training.draw_batches

    def until_the_second(images, labels, chosen, epoch):
        epochs.append(epoch)
        for number, batch in enumerate(batches(images, labels, chosen, epoch)):
            if epoch == 1 and number == 2 and epochs == [0, 1]:
                raise Stopped
            yield batch

    monkeypatch.setattr(training, "draw_batches", until_the_second)
    with pytest.raises(Stopped):
        train(*arrays, tmp_path / "b.pt", TRAINING)
    torch.rand(3)  # what happens to torch's own random state between the starts plays no part
    again = weights(train(*arrays, tmp_path / "b.pt", TRAINING))
    assert epochs == [0, 1, 1, 2]
    assert all(torch.equal(again[name], value) for name, value in through.items())


def test_a_finished_training_is_not_done_again(data, tmp_path, monkeypatch):
    arrays = data.train_images, data.train_labels
    first = weights(train(*arrays, tmp_path / "a.pt", TRAINING))
    monkeypatch.setattr(training, "draw_batches", None)
    again = weights(train(*arrays, tmp_path / "a.pt", TRAINING))
    assert all(torch.equal(again[name], value) for name, value in first.items())


def test_a_checkpoint_of_another_training_or_a_damaged_one_does_not_count(data, tmp_path):
    path = tmp_path / "a.pt"
    arrays = data.train_images, data.train_labels
    one = dataclasses.replace(TRAINING, epochs=1)
    first = weights(train(*arrays, path, one))
    other = weights(train(*arrays, path, dataclasses.replace(one, seed=1)))
    assert not torch.equal(other["0.weight"], first["0.weight"])
    path.write_bytes(b"damaged")
    assert torch.equal(weights(train(*arrays, path, one))["0.weight"], first["0.weight"])


def test_the_global_random_state_is_left_alone(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    train(
        data.train_images,
        data.train_labels,
        tmp_path / "a.pt",
        dataclasses.replace(TRAINING, epochs=1),
    )
    assert torch.equal(torch.rand(2), expected)


def test_the_optimizer_is_what_the_words_say(tmp_path):
    """Two steps of SGD with Nesterov momentum (Sutskever et al. 2013, eqs. 3 and 4), by hand."""
    first = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    optimizer = torch.optim.SGD(
        first.parameters(), lr=1.0, momentum=0.9, weight_decay=0.01, nesterov=True
    )
    schedule = Training(epochs=1, peak_rate=0.1, warm_up=0.5)
    inputs = torch.tensor([[0.5, 1.0, -1.0]])
    training.run_epochs(
        first,
        optimizer,
        lambda epoch: (first(inputs).sum() for _ in range(2)),
        schedule,
        steps=2,
        checkpoint=training.Checkpoint(tmp_path / "a.pt", {}),
        show_progress=False,
    )
    weight, velocity = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    for step in range(2):
        gradient = inputs[0].numpy() + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - one_cycle(step, 2, peak=0.1, warm_up=0.5) * (gradient + 0.9 * velocity)
    np.testing.assert_allclose(first.weight[0].detach(), weight, rtol=1e-6)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [one_cycle(step, 100, peak=0.2, warm_up=0.25) for step in range(100)]
    assert rates[0] < 0.002
    assert rates[25] == pytest.approx(0.2)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] < 0.001
    # Half of the way down along a cosine.
    assert rates[25] / 2 == pytest.approx(np.mean([rates[62], rates[63]]), rel=0.01)


def test_batches_hold_every_image_once(data):
    chosen = dataclasses.replace(TRAINING, batch_size=40)
    found = list(draw_batches(data.train_images, data.train_labels, chosen, 0))
    assert [inputs.shape for inputs, _ in found] == [(40, 1, 28, 28)] * 5
    labels = np.concatenate([targets.numpy() for _, targets in found])
    np.testing.assert_array_equal(np.sort(labels), np.sort(data.train_labels))
    other = list(draw_batches(data.train_images, data.train_labels, chosen, 1))
    assert not torch.equal(found[0][0], other[0][0])


def test_the_network_takes_colour_images_as_grey(data):
    classifier = wrap_classifier(build_network((8, 8)))
    grey = data.test_images[:3]
    logits = classifier.predict(np.repeat(grey[..., None], 3, axis=3))
    assert logits.shape == (3, 10)
    with torch.no_grad():
        inputs = (torch.from_numpy(grey.copy())[:, None] / 255 - 0.286) / 0.353
        expected = classifier.module(inputs.float())
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-5)
