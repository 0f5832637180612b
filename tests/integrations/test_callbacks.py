"""A small grid after each epoch, in the training loops of Lightning and of Hugging Face."""

import numpy as np
import pytest
import torch

from shiftproof import Preprocess
from shiftproof.data import ImageArrays
from shiftproof.errors import InputError
from shiftproof.integrations import EpochGrid
from shiftproof.runs import load_run

PREPROCESS = Preprocess((8, 8), None, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LABELS = [0, 1, 2] * 4


def draw_images():
    """Noisy squares in the color of their class."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 120, (len(LABELS), 8, 8, 3)).astype(np.uint8)
    for image, label in zip(images, LABELS, strict=True):
        image[..., label] += 60
    return images


class Mean(torch.nn.Module):
    """The mean color, a dropout, and a linear layer: small, and another in training."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(3, 3)

    def forward(self, pixel_values, labels=None):
        logits = self.head(self.drop(pixel_values.mean((2, 3))))
        if labels is None:
            return logits
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def make_grid(**options):
    data = ImageArrays(list(draw_images()), labels=LABELS)
    settings = {"corruptions": ["contrast"], "severities": [5], **options}
    return EpochGrid(data, PREPROCESS, ["red", "green", "blue"], **settings)


def make_network(*, right=True):
    network = Mean().train()
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(3) * (20 if right else -20))
        network.head.bias.zero_()
    return network


def test_a_grid_measures_a_network_and_leaves_it_in_training(tmp_path):
    network = make_network()
    network.drop.eval()
    found = make_grid(out=tmp_path).measure(network, 3)
    assert found["shift/clean"] == 0
    assert set(found) >= {"shift/mean", "shift/corruption/contrast"}
    assert (network.training, network.drop.training, network.head.training) == (True, False, True)
    assert load_run(tmp_path / "epoch-0003").scores.models[0].summary["clean"].value == 0
    assert make_grid().measure(make_network(right=False), 0)["shift/clean"] == 1


def test_a_grid_is_due_every_so_many_epochs():
    assert [epoch for epoch in range(7) if make_grid(every=3).is_due(epoch)] == [2, 5]
    with pytest.raises(InputError, match="every 1 epoch or more, got 0"):
        make_grid(every=0)


def tensors():
    images = torch.from_numpy(draw_images()).permute(0, 3, 1, 2).float() / 255
    return (images - 0.5) / 0.25


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_logs_a_grid_after_each_validation(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning")
    from shiftproof.integrations.lightning import RobustnessCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = make_network()

        def forward(self, inputs):
            return self.network(inputs)

        def training_step(self, batch):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch):
            self.log("seen", float(len(batch[0])))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-6)

    data = torch.utils.data.TensorDataset(tensors(), torch.tensor(LABELS))
    loader = torch.utils.data.DataLoader(data, batch_size=6)
    best = lightning.callbacks.ModelCheckpoint(tmp_path / "best", monitor="shift/mean")
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[RobustnessCallback(make_grid(out=tmp_path / "grids")), best],
    )  # fmt: skip
    trainer.fit(Module(), loader, loader)
    assert float(trainer.callback_metrics["shift/clean"]) == 0
    last = load_run(tmp_path / "grids" / "epoch-0001").scores.models[0].summary["mean"].value
    assert float(trainer.callback_metrics["shift/mean"]) == pytest.approx(last)
    assert (tmp_path / "grids" / "epoch-0000").is_dir()
    assert best.best_model_score is not None


@pytest.mark.filterwarnings("ignore")  # of transformers and accelerate
def test_the_trainer_of_hugging_face_logs_a_grid_after_each_epoch(tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    from shiftproof.integrations.transformers import RobustnessCallback

    images = tensors()
    rows = [{"pixel_values": images[at], "labels": label} for at, label in enumerate(LABELS)]
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=6, learning_rate=1e-6,
        eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="eval_shift/mean", greater_is_better=False,
        report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(make_network(), arguments, train_dataset=rows, eval_dataset=rows)
    trainer.add_callback(RobustnessCallback(trainer, make_grid(out=tmp_path / "grids")))
    trainer.train()
    logged = [one for one in trainer.state.log_history if "shift/mean" in one]
    assert [round(one["epoch"]) for one in logged] == [1, 2]
    assert {one["shift/clean"] for one in logged} == {0}
    assert trainer.state.best_metric == pytest.approx(min(one["shift/mean"] for one in logged))
    assert (tmp_path / "grids" / "epoch-0001").is_dir()
    # The weights may be those of another epoch now.
    assert not [name for name in trainer.evaluate() if name.startswith("eval_shift/")]
