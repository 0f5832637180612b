"""The contrastive losses on CUDA: value and gradient of the plain form, memory of the tiles."""

import pytest

torch = pytest.importorskip("torch")

from shiftproof.contrastive import AnInfoNCE, info_nce  # noqa: E402

pytestmark = pytest.mark.gpu


def plain_info_nce(u, v, temperature):
    both = torch.nn.functional.normalize(torch.cat([u, v]), dim=1)
    logits = both @ both.T / temperature
    logits = logits.masked_fill(torch.eye(len(both), dtype=torch.bool, device=u.device), -torch.inf)
    other = torch.arange(len(both), device=u.device).roll(len(u))
    return torch.nn.functional.cross_entropy(logits, other)


@pytest.mark.parametrize("tile", [None, 100])
def test_value_and_gradient_are_those_of_the_plain_form(tile):
    torch.manual_seed(0)
    u, v = (torch.randn(300, 32, device="cuda", requires_grad=True) for _ in range(2))
    ours = info_nce(u, v, temperature=0.2, tile=tile)
    theirs = plain_info_nce(u, v, 0.2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(ours, [u, v]), torch.autograd.grad(theirs, [u, v]), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_learnt_precision_answers_as_on_the_processor():
    torch.manual_seed(0)
    u, v = torch.randn(64, 16), torch.randn(64, 16)
    loss = AnInfoNCE(16)
    expected = loss(u, v).item()
    assert loss.cuda()(u.cuda(), v.cuda()).item() == pytest.approx(expected, rel=1e-5)


def test_memory_does_not_grow_with_the_square_of_the_batch():
    u, v = (torch.randn(16_384, 64, device="cuda", requires_grad=True) for _ in range(2))
    torch.cuda.reset_peak_memory_stats()
    info_nce(u, v, temperature=0.2).backward()
    # The matrix alone would take 4 (2 x 16,384)^2 bytes, 4.3 GB.
    assert torch.cuda.max_memory_allocated() < 2e9
