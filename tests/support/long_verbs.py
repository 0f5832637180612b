"""Every verb that works in parts, as a small function of photographs, output folder and backend."""

import numpy as np

from shiftproof import Classifier, Encoder, Preprocess, bench
from shiftproof.data import ImageArrays, export_corrupted, open_data
from shiftproof.embed import embed
from shiftproof.evaluate import evaluate
from shiftproof.probe import probe
from shiftproof.stylize import export_stylized
from support import scored_results, tiny
from support.learner import Learner


def measure_grid(photos, out, backend):
    model = tiny.make_model()
    bench.run(
        model, open_data(photos, classes=model.classes), out=out, backend=backend, workers=0,
        corruptions=["gaussian_noise", "contrast"], severities=[1, 5],
        adapters={"learner": Learner}, protocol="online:reset=corruption",
    )  # fmt: skip


def measure_test_sets(photos, out, backend):
    models = {"one": tiny.make_model(), "two": tiny.make_model()}
    evaluate(models, {"photos": photos}, out=out, backend=backend, workers=0)


def levels(batch):
    """Return logits of six classes by the mean brightness of the left half."""
    level = batch[:, :, :, : batch.shape[3] // 2].mean(axis=(1, 2, 3))
    return (-((level[:, None] - np.linspace(-1.5, 1.5, 6)) ** 2)).astype(np.float32)


def measure_steadiness(photos, out, backend):
    names = [f"c{number}" for number in range(6)]
    model = Classifier(levels, Preprocess((28, 28), 32), names, name="levels")
    perturbations = ["translate", "brightness"]
    bench.measure_stability(
        model, photos, out=out, perturbations=perturbations, backend=backend, show_progress=False
    )


def means(inputs):
    return inputs.mean(axis=(2, 3))


def make_encoder():
    plain = Preprocess((16, 16), None, mean=(0, 0, 0), std=(1, 1, 1))
    return Encoder(means, plain, normalize=False, name="means")


def embed_photos(photos, out, backend):
    embed(make_encoder(), photos, out, shard_size=5, workers=0, backend=backend)


def probe_encoder(photos, out, backend):
    pictures = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    probe(
        make_encoder(), ImageArrays(pictures), out=out, factors=["brightness", "contrast"],
        versions=2, workers=0, backend=backend,
    )  # fmt: skip


def corrupt_photos(photos, out, backend):
    export_corrupted(
        photos, out, corruptions=["contrast"], severities=[2, 4], workers=0, backend=backend
    )


def stylize_photos(photos, out, backend):
    export_stylized(photos, out, combined=True, workers=0, backend=backend)


def score_results(kind):
    def score(photos, out, backend):
        root = photos.parent / f"results {kind}"
        data, models = scored_results.make(kind, photos, root)
        bench.score(models, data, out=out, workers=0, backend=backend)

    return score


VERBS = {
    "bench": measure_grid,
    "evaluate": measure_test_sets,
    "perturb": measure_steadiness,
    "embed": embed_photos,
    "probe": probe_encoder,
    "corrupt": corrupt_photos,
    "stylize": stylize_photos,
    **{f"score {kind}": score_results(kind) for kind in scored_results.KINDS},
}
