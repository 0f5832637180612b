import math

import numpy as np
import pytest
import torch

from shiftproof.contrastive import AnInfoNCE, LossEnsemble, Queue, info_nce
from shiftproof.errors import InputError
from support import contrast_by_hand

PAIRS, DIM = 9, 4


def views(seed=0, pairs=PAIRS, dim=DIM, dtype=torch.float64, noise=0.4):
    random = np.random.default_rng(seed)
    u = random.normal(size=(pairs, dim))
    v = u + noise * random.normal(size=(pairs, dim))
    return torch.tensor(u, dtype=dtype), torch.tensor(v, dtype=dtype)


def positive_definite(seed=1):
    root = np.random.default_rng(seed).normal(size=(DIM, DIM))
    return torch.tensor(root @ root.T + np.eye(DIM))


MORE = torch.tensor(np.random.default_rng(5).normal(size=(7, DIM)))
EACH = torch.tensor(np.random.default_rng(6).normal(size=(PAIRS, 3, DIM)))
LABELS = torch.tensor([0, 1, 1, 2, -3, 0, 1, 2, 9])

CASES = {
    "both": {},
    "other": {"negatives": "other"},
    "one anchor": {"symmetric": False},
    "one anchor, other": {"symmetric": False, "negatives": "other"},
    "diagonal": {"precision": torch.tensor([0.3, 1.0, 5.0, 20.0], dtype=torch.float64)},
    "full": {"precision": positive_definite(), "negatives": "other"},
    "euclidean": {"space": "euclidean"},
    "queue": {"more_negatives": MORE},
    "queue alone": {"more_negatives": MORE, "negatives": "none", "symmetric": False},
    "of each image": {"more_negatives": EACH, "negatives": "other"},
    "hard": {"hardness": 1.5},
    "hard, queue": {"hardness": 0.5, "more_negatives": MORE, "negatives": "other"},
    "supervised": {"labels": LABELS},
    "supervised, other": {"labels": LABELS, "negatives": "other"},
    "supervised, queue": {"labels": LABELS, "more_negatives": EACH, "symmetric": False},
}


def by_hand(u, v, temperature, **options):
    given = dict(options)
    given["sphere"] = given.pop("space", "sphere") == "sphere"
    given["more"] = given.pop("more_negatives", None)
    if given.get("labels") is not None:
        given["labels"] = given["labels"].tolist()
    return contrast_by_hand.loss(u, v, temperature=temperature, **given)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tile", [None, 4])
def test_the_loss_is_as_the_papers_write_it(case, tile):
    u, v = views()
    ours = info_nce(u, v, temperature=0.4, tile=tile, **CASES[case])
    assert float(ours.detach()) == pytest.approx(by_hand(u, v, 0.4, **CASES[case]), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_is_the_cross_entropy_of_simclr(temperature):
    u, v = views(dtype=torch.float32)
    z = torch.nn.functional.normalize(torch.cat([u, v]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    target = torch.arange(2 * PAIRS).roll(PAIRS)
    expected = torch.nn.functional.cross_entropy(logits, target)
    assert float(info_nce(u, v, temperature=temperature)) == pytest.approx(
        float(expected), rel=1e-5
    )


# ---------------------------------------------------------------- tiles


def value_and_gradients(tile, dtype, temperature, case, pairs=PAIRS):
    u, v = views(pairs=pairs, dtype=dtype)
    options = {
        name: value.to(dtype) if isinstance(value, torch.Tensor) and name != "labels" else value
        for name, value in CASES[case].items()
    }
    leaves = {"u": u, "v": v, "temperature": torch.tensor(temperature, dtype=dtype)}
    leaves |= {name: options[name] for name in ("precision", "more_negatives") if name in options}
    leaves = {name: value.clone().requires_grad_() for name, value in leaves.items()}
    loss = info_nce(**{**options, **leaves}, tile=tile)
    return [loss.detach(), *torch.autograd.grad(loss, list(leaves.values()))]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["64", "32"]
)
@pytest.mark.parametrize("temperature", [0.5, 0.01, 1e-4])
def test_tiles_give_the_plain_value_and_gradients(case, dtype, tolerance, temperature):
    plain = value_and_gradients(1000, dtype, temperature, case)
    tiled = value_and_gradients(4, dtype, temperature, case)
    for ours, expected in zip(tiled, plain, strict=True):
        assert ours.dtype == expected.dtype
        scale = float(expected.abs().max())
        assert float((ours - expected).abs().max()) <= tolerance * scale + 1e-30


@pytest.mark.parametrize("case", ["both", "other", "queue", "hard", "supervised"])
def test_gradients_of_tiles_are_those_of_finite_differences(case):
    u, v = (view.requires_grad_() for view in views(pairs=6))
    options = CASES[case]
    if "labels" in options:
        options = {"labels": LABELS[:6]}
    precision = torch.tensor([0.5, 1.0, 2.0, 8.0], dtype=torch.float64, requires_grad=True)

    def loss(u, v, precision):
        return info_nce(u, v, temperature=0.7, precision=precision, tile=4, **options)

    assert torch.autograd.gradcheck(loss, (u, v, precision))


def test_tiles_keep_nothing_that_grows_with_the_square():
    def kept(pairs, tile):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            info_nce(
                *(view.requires_grad_() for view in views(pairs=pairs)), temperature=0.1, tile=tile
            )
        return sum(sizes)

    assert kept(800, 100) < 2.1 * kept(400, 100)
    assert kept(800, 4000) > 3.5 * kept(400, 4000)


def test_the_default_tile_is_tiled_for_a_large_batch():
    u, v = views(pairs=600, dtype=torch.float32)
    assert float(info_nce(u, v, temperature=0.1)) == pytest.approx(
        float(info_nce(u, v, temperature=0.1, tile=5000)), rel=1e-6
    )


# ---------------------------------------------------------------- extremes


@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize("precision", [1.0, 1e4])
def test_float32_is_stable_at_low_temperature_and_high_precision(tile, precision):
    wide = torch.tensor([precision, 1.0, 1.0, 1.0], dtype=torch.float64)
    results = []
    for dtype in (torch.float64, torch.float32):
        u, v = (view.requires_grad_() for view in views(dtype=dtype, noise=0.01))
        loss = info_nce(u, v, temperature=0.01, precision=wide.to(dtype), tile=tile)
        results.append([loss.detach(), *torch.autograd.grad(loss, [u, v])])
    for exact, ours in zip(*results, strict=True):
        scale = float(exact.abs().max())
        assert float((ours - exact).abs().max()) < 2e-3 * scale + 1e-30
        assert torch.isfinite(ours).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize(("largest", "temperature"), [(1e4, 1.0), (10.0, 0.01)])
def test_under_autocast_it_is_computed_in_float32(dtype, tile, largest, temperature):
    u, v = (view.to(dtype) for view in views(dtype=torch.float32))
    loss = AnInfoNCE(DIM, start=[1.0, 5.0, 3.0, largest], temperature=temperature, tile=tile)
    expected = loss(u.float(), v.float())
    expected.backward()
    gradient = loss.free.grad.clone()
    loss.free.grad = None
    u, v = u.requires_grad_(), v.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = loss(u, v)
        ours.backward()
    assert ours.dtype == torch.float32
    assert float(ours.detach()) == float(expected.detach())
    torch.testing.assert_close(loss.free.grad, gradient, rtol=1e-6, atol=0)
    assert u.grad.dtype == dtype
    assert torch.isfinite(u.grad).all()


def test_pairs_far_apart_and_negatives_farther_still():
    # Powers of -1e6 vanish; the loss must not.
    u = torch.tensor([[0.0], [1e4]])
    v = torch.tensor([[1e3], [1.2e4]])
    for tile in (1, 100):
        value = info_nce(u, v, temperature=1.0, space="euclidean", negatives="other", tile=tile)
        assert float(value.detach()) == 0.0
        turned = info_nce(u, v.flip(0), temperature=1.0, space="euclidean", tile=tile)
        assert float(turned.detach()) == pytest.approx(contrast_far_apart(u, v.flip(0)), rel=1e-5)


def contrast_far_apart(u, v):
    """Differences of the largest logits: all others vanish."""
    z = torch.cat([u, v]).double().ravel()
    losses = []
    for i in range(4):
        partner = (i + 2) % 4
        near = (z[i] - z[partner]) ** 2 / 2
        others = [(z[i] - z[j]) ** 2 / 2 for j in range(4) if j not in (i, partner)]
        losses.append(max(0.0, float(near - min(others))))
    return np.mean(losses)


def test_images_that_are_the_same_are_counted_twice():
    u = torch.eye(3)[[0, 0, 1]]
    twice, once = math.log(2 + 1 + 2 * math.exp(-1)), math.log(1 + 4 * math.exp(-1))
    expected = (2 * twice + once) / 3
    assert float(info_nce(u, u, temperature=1.0)) == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------- AnInfoNCE


@pytest.mark.parametrize("link", ["softplus", "exp"])
@pytest.mark.parametrize("start", [1e-3, 5.0, 1e4])
@pytest.mark.parametrize("form", ["diagonal", "full"])
def test_precision_starts_where_it_is_told_to(link, start, form):
    loss = AnInfoNCE(3, start=start, link=link, form=form)
    torch.testing.assert_close(loss.precision, torch.full((3,), start), rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.matrix, start * torch.eye(3), rtol=1e-5, atol=0)


def test_a_full_precision_is_its_cholesky_factor_times_itself():
    loss = AnInfoNCE(3, form="full", start=[1.0, 4.0, 9.0])
    with torch.no_grad():
        loss.below.copy_(torch.tensor([0.5, -1.0, 2.0]))
    factor = np.array([[1, 0, 0], [0.5, 2, 0], [-1, 2, 3.0]])
    np.testing.assert_allclose(loss.matrix.detach(), factor @ factor.T, rtol=1e-5)
    np.testing.assert_allclose(loss.precision.detach(), np.diag(factor @ factor.T), rtol=1e-5)
    u, v = views(dim=3, dtype=torch.float32)
    assert float(loss(u, v).detach()) == pytest.approx(
        contrast_by_hand.loss(u, v, precision=factor @ factor.T), rel=1e-5
    )
    loss(u, v).backward()
    assert loss.below.grad.abs().min() > 0


def test_precision_is_learnt_where_pairs_are_drawn_with_it():
    # Latents themselves as embedding: what is left to find is Λ, which theory gives for "other".
    random = np.random.default_rng(0)
    true = np.array([4.0, 16.0])
    loss = AnInfoNCE(2, space="euclidean", negatives="other", start=8.0, link="exp")
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    found = []
    for _step in range(200):
        u = random.uniform(-1, 1, (256, 2)) * 20
        v = u + random.normal(size=(256, 2)) / np.sqrt(true)
        value = loss(*(torch.tensor(view, dtype=torch.float32) for view in (u, v)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(loss.precision.detach().numpy().copy())
    np.testing.assert_allclose(np.mean(found[100:], axis=0), true, rtol=0.1)


def test_a_precision_that_is_not_learnt_stays():
    loss = AnInfoNCE(DIM, learn=False)
    u, v = (view.requires_grad_() for view in views(dtype=torch.float32))
    loss(u, v).backward()
    assert loss.free.grad is None
    assert u.grad is not None


def test_its_state_is_saved_and_loaded():
    one, other = AnInfoNCE(3, start=[1.0, 2.0, 3.0]), AnInfoNCE(3)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other.precision, torch.tensor([1.0, 2.0, 3.0]))


def test_an_ensemble_is_the_weighted_mean_over_stretches():
    u, v = views(dim=5, dtype=torch.float32)
    losses = [AnInfoNCE(2, start=3.0), AnInfoNCE(3, start=30.0, negatives="other")]
    expected = (3 * losses[0](u[:, :2], v[:, :2]) + losses[1](u[:, 2:], v[:, 2:])) / 4
    ensemble = LossEnsemble(losses, weights=[3, 1])
    assert float(ensemble(u, v).detach()) == pytest.approx(float(expected.detach()))
    assert len(list(ensemble.parameters())) == 2


def test_a_queue_keeps_the_newest_and_leaves_what_was_taken():
    queue = Queue(4, dim=2)
    assert queue.vectors.shape == (0, 2)
    queue.push(torch.arange(6.0).reshape(3, 2))
    taken = queue.vectors
    queue.push(torch.arange(6.0, 10.0).reshape(2, 2).requires_grad_())
    assert taken.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert queue.vectors.tolist() == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert not queue.vectors.requires_grad
    queue.push(torch.arange(12.0).reshape(6, 2))
    assert queue.vectors.tolist() == [[4, 5], [6, 7], [8, 9], [10, 11]]
    again = Queue(4, dim=2)
    again.load_state_dict(queue.state_dict())
    assert again.vectors.tolist() == queue.vectors.tolist()


# ---------------------------------------------------------------- wrong input

U, V = views(dtype=torch.float32)
NAN = U.clone()
NAN[3, 1] = torch.nan
ZERO = U.clone()
ZERO[[2, 5]] = 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: info_nce(U[:1], V[:1], temperature=1), "a batch of one has no negatives"),
        (lambda: info_nce(U, V[:5], temperature=1), r"same shape.*\(9, 4\) and \(5, 4\)"),
        (lambda: info_nce(U, NAN, temperature=1), "v: row 3 has NaN"),
        (lambda: info_nce(ZERO, V, temperature=1), "u: 2 rows have a length of zero"),
        (lambda: info_nce(U, V, temperature=0), "temperature: expected a number above 0, got 0"),
        (lambda: info_nce(U, V, temperature=torch.tensor(-1.0)), "temperature"),
        (lambda: info_nce(U, V, temperature=math.nan), "temperature"),
        (lambda: info_nce(U, V, temperature=1, precision=torch.tensor([1.0, 0, 1, 1])), "above 0"),
        (lambda: info_nce(U, V, temperature=1, precision=torch.ones(3)), r"\(4,\) or \(4, 4\)"),
        (lambda: info_nce(U, V, temperature=1, precision=-torch.eye(4)), "positive definite"),
        (lambda: info_nce(U, V, temperature=1, negatives="bth"), "Did you mean 'both'"),
        (lambda: info_nce(U, V, temperature=1, space="plane"), "Unknown space"),
        (lambda: info_nce(U, V, temperature=1, negatives="none"), "give more_negatives"),
        (lambda: info_nce(U, V, temperature=1, hardness=-1), "hardness"),
        (lambda: info_nce(U, V, temperature=1, tile=0), "tile"),
        (lambda: info_nce(U, V, temperature=1, more_negatives=U[:, :2]), "more_negatives"),
        (lambda: info_nce(U, V, temperature=1, labels=torch.ones(3)), "labels"),
        (lambda: info_nce(U, V, temperature=1, labels=torch.ones(9)), "whole numbers"),
        (lambda: info_nce(U, V, temperature=1, labels=LABELS, hardness=1), "hardness 0"),
        (lambda: info_nce(U.numpy(), V, temperature=1), "u: expected a floating tensor"),
        (lambda: info_nce(U.long(), V, temperature=1), "int64"),
        (lambda: info_nce(U[:0], V[:0], temperature=1), "empty"),
        (lambda: info_nce(U, V, temperature=1, gather=True), "init_process_group"),
        (lambda: AnInfoNCE(4, start=0), "start: expected precisions above 0, got 0"),
        (lambda: AnInfoNCE(4, start=[1, 2, 0, 3]), "above 0"),
        (lambda: AnInfoNCE(4, start=[1, 2]), "one number or 4"),
        (lambda: AnInfoNCE(0), "dim"),
        (lambda: AnInfoNCE(4, form="diag"), "Did you mean 'diagonal'"),
        (lambda: AnInfoNCE(4, link="log"), "Unknown link"),
        (lambda: AnInfoNCE(4, temperature=0), "temperature"),
        (lambda: AnInfoNCE(5)(U, V), r"AnInfoNCE\(4\)"),
        (lambda: LossEnsemble([]), "at least one loss"),
        (lambda: LossEnsemble([AnInfoNCE(2)], weights=[-1]), "weights"),
        (lambda: LossEnsemble([AnInfoNCE(2)], weights=[0]), "zeros"),
        (lambda: LossEnsemble([AnInfoNCE(2)])(U, V), "length 2"),
        (lambda: Queue(0, dim=2), "size"),
        (lambda: Queue(2, dim=2).push(U), r"\(N, 2\)"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(call, said):
    with pytest.raises(InputError, match=said):
        call()


# ---------------------------------------------------------------- odd matrices, lengths, transforms


def by_double(u, v, matrix):
    """The loss of unit vectors in float64, by the definition."""
    u, v = (torch.nn.functional.normalize(each.double(), dim=1) for each in (u, v))
    both, other = torch.cat([u, v]), torch.cat([v, u])
    apart = both[:, None] - both
    delta = torch.einsum("abi,ij,abj->ab", apart, matrix.double(), apart) / 2
    pairs = other - both
    near = torch.einsum("ai,ij,aj->a", pairs, matrix.double(), pairs) / 2
    delta.fill_diagonal_(torch.inf)
    return float((near + torch.logsumexp(-delta, 1)).mean())


def test_of_an_asymmetric_precision_the_symmetric_part_counts():
    torch.manual_seed(0)
    u, v = torch.randn(7, 3), torch.randn(7, 3)
    matrix = 2 * torch.eye(3)
    matrix[0, 1] = 1
    expected = by_double(u, v, matrix)
    for given in (matrix, matrix.T, (matrix + matrix.T) / 2, matrix.double()):
        for tile in (None, 2):
            loss = info_nce(u, v, temperature=1.0, precision=given, tile=tile)
            assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        (torch.tensor([[1.0, 4.0], [0.0, 1.0]]), "positive definite"),
        (torch.tensor([[1.0, 0.0], [0.0, -1.0]]), "positive definite"),
        (torch.tensor([[1.0, 0.0], [float("nan"), 1.0]]), "positive definite"),
        (torch.eye(2) * float("inf"), "positive definite"),
        (torch.eye(3), "the shape"),
        (torch.tensor([1.0, float("nan")]), "above 0"),
        (torch.eye(2, dtype=torch.complex64), "real numbers"),
        ([[1.0, 0.0], [0.0, 1.0]], "real numbers"),
    ],
)
def test_precisions_that_are_none(precision, message):
    u = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(InputError, match=message):
        info_nce(u, u, temperature=1.0, precision=precision)


@pytest.mark.parametrize("space", ["sphere", "euclidean"])
@pytest.mark.parametrize("size", [1e20, 1e-25])
@pytest.mark.parametrize("tile", [None, 2])
def test_very_long_and_very_short_vectors(space, size, tile):
    torch.manual_seed(0)
    u = torch.randn(6, 4)
    v = u + 0.1 * torch.randn(6, 4)
    options = {"temperature": 1.0, "space": space, "tile": tile}
    ours = (u * size).requires_grad_()
    loss = info_nce(ours, v * size, **options)
    exact = (u * size).double().requires_grad_()
    expected = info_nce(exact, (v * size).double(), **options)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    scale = float(exact.grad.abs().amax())
    assert torch.allclose(ours.grad.double() / (scale or 1), exact.grad / (scale or 1), atol=1e-5)


def test_vectors_too_long_for_any_number():
    u = torch.full((3, 2), 1e200, dtype=torch.float64)
    with pytest.raises(InputError, match="squared distances cannot be computed"):
        info_nce(u, -u, temperature=1.0, space="euclidean")


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"negatives": "other"}, {"symmetric": False}, {"labels": [0, 1, 0, 1, 2, 2, 1]}],
    ids=str,
)
def test_torch_func_sees_through(tile, options):
    torch.manual_seed(0)
    u, v = torch.randn(7, 3), torch.randn(7, 3)
    options = {
        name: torch.tensor(value) if name == "labels" else value for name, value in options.items()
    }

    def loss(vectors):
        return info_nce(vectors, v, temperature=0.5, tile=tile, **options)

    leaf = u.clone().requires_grad_()
    [expected] = torch.autograd.grad(loss(leaf), leaf)
    assert torch.allclose(torch.func.grad(loss)(u), expected, atol=1e-7)
