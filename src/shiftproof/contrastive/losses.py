"""InfoNCE and AnInfoNCE (Rusak et al. 2025, arXiv 2407.00143): exact, stable, memory-efficient.

Let ``δ(a, b) = ½ (a - b)ᵀ Λ (a - b) / τ`` be the distance. The loss of an anchor ``u`` with
positive ``v`` is ``δ(u, v) + log(exp(-δ(u, v)) + Σ exp(-δ(u, n)))`` over its negatives n. InfoNCE
has Λ = 1; on the sphere that is the cosine similarity over τ (Chen et al. 2020, arXiv 2002.05709).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from shiftproof.errors import InputError, MissingExtraError, UnknownNameError
from shiftproof.unit_rows import measure_tensor_rows

try:
    import torch

    from shiftproof.contrastive.gather import (
        all_reduce_max,
        all_reduce_mean,
        gather_vectors,
        get_rank_and_size,
    )
    from shiftproof.contrastive.logsums import (
        TILE,
        TILE_CUDA,
        both_log_sums,
        own_log_sums,
        row_log_sums,
    )
except ImportError as error:
    raise MissingExtraError.of("torch", "torch") from error

Negatives: TypeAlias = Literal["both", "other", "none"]
"""Which vectors of the batch are an anchor's negatives: those of both views (2B - 2), as in SimCLR
and the published AnInfoNCE; only those of the other view (B - 1), as in the theory; or none, if
``more_negatives`` has them all.
"""

Space: TypeAlias = Literal["sphere", "euclidean"]
"""Whether vectors are normalized to unit length first."""

Link: TypeAlias = Literal["softplus", "exp"]
"""Maps an unconstrained parameter to a positive precision: softplus, as published, or exp, with
which a step of Adam changes every precision, small or large, by the same factor.
"""


def info_nce(
    u: torch.Tensor,
    v: torch.Tensor,
    *,
    temperature: float | torch.Tensor,
    precision: torch.Tensor | None = None,
    negatives: Negatives = "both",
    space: Space = "sphere",
    symmetric: bool = True,
    more_negatives: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    hardness: float = 0.0,
    gather: bool = False,
    tile: int | None = None,
) -> torch.Tensor:
    """Return the InfoNCE loss of a batch of pairs, the mean over its anchors.

    Computed in at least float32, also under autocast. Memory is linear in the batch size: the
    distances are computed tile by tile, and recomputed in the backward pass. Value and gradients
    equal those of the plain form. Duplicate images count separately.

    >>> u = torch.eye(2)
    >>> round(float(info_nce(u, u, temperature=1.0)), 4)  # two negatives at a right angle
    0.5514
    >>> round(math.log(1 + 2 * math.exp(-1)), 4)
    0.5514

    Args:
        u: ``(B, D)`` floating, one view of each image.
        v: ``(B, D)``, the other view, in the same order.
        temperature: τ, above 0; a scalar tensor may be learned.
        precision: Λ, ``(D,)`` its diagonal or ``(D, D)`` positive definite, of which only the
            symmetric part ``(Λ + Λᵀ) / 2`` affects δ; None is the identity.
        negatives: which vectors of the batch are negatives, see ``Negatives``.
        space: ``"sphere"`` normalizes all vectors, ``"euclidean"`` does not.
        symmetric: whether both views are anchors; else only ``u``, as in MoCo.
        more_negatives: ``(M, D)`` shared by all anchors, such as a queue, or ``(B, M, D)`` separate
            ones for each image.
        labels: ``(B,)`` integers. All that share the anchor's label are its positives, and the loss
            is the mean over them (Khosla et al. 2020, arXiv 2004.11362, L_out). All of them are in
            the denominator, including the pair's other view; with ``negatives="other"`` only those
            of the other view.
        hardness: β; above 0, negatives are weighted by ``exp(-β δ)`` with a mean weight of 1, so
            that near ones count more (Robinson et al. 2021, arXiv 2010.04592, without debiasing).
        gather: joins the batches of all processes of ``torch.distributed``; the result is the mean
            over this process's anchors, with gradients to be averaged over processes.
        tile: rows of a tile; None chooses. A tile that holds the batch is the plain form, which has
            second derivatives.

    Returns:
        A scalar; non-negative, except with ``labels`` or ``hardness``.

    Raises:
        InputError: shapes do not fit, there is no negative, a vector is not finite or, on the
            sphere, zero, or a setting is out of its range.
    """
    _check_settings(negatives, space, hardness, tile)
    _check_views(u, v)
    with torch.autocast(u.device.type, enabled=False):
        scale = _make_scaling(u, temperature, precision)
        first, second = scale(_to_space(u, "u", space)), scale(_to_space(v, "v", space))
        more = None
        if more_negatives is not None:
            _check_more(more_negatives, u)
            more = scale(_to_space(more_negatives, "more_negatives", space))
        if space == "euclidean":
            first, second, more = _center(first, second, more, gather)
        batch = _Batch(first, second, more, negatives, symmetric, gather, tile)
        value = batch.loss(hardness) if labels is None else batch.supervised_loss(labels, hardness)
        return value.to(torch.promote_types(u.dtype, torch.float32))


class AnInfoNCE(torch.nn.Module):
    """InfoNCE with a learned precision Λ: latents may vary by different amounts within a pair.

    If pairs are drawn with a precision λ per latent, then at the optimum the encoder recovers the
    latents, up to an orthogonal map among those of equal λ, and ``precision`` equals Λ.

    The choice of negatives hardly changes the learned precision: with the true latents instead of
    an encoder, ``"other"`` (as in the theory) and ``"both"`` end within 3 % of Λ on average. With
    an imperfect encoder the precisions shrink towards each other: 5.5 and 23.1 for true values of 5
    and 25, in the published logs.

    >>> loss = AnInfoNCE(3, start=5.0)
    >>> u = torch.nn.functional.normalize(torch.rand(8, 3), dim=1)
    >>> loss(u, u + 0.01).backward()
    >>> [round(value, 4) for value in loss.precision.tolist()], loss.free.grad.shape
    ([5.0, 5.0, 5.0], torch.Size([3]))

    Args:
        dim: D, the dimension of the embeddings.
        start: initial precision, one number or one per dimension. Far from the true precision,
            latents are lost.
        form: ``"diagonal"``, or ``"full"``: any positive definite Λ, by its Cholesky factor.
        link: maps unconstrained parameters to positive precisions, see ``Link``.
        learn: whether Λ is learned; else it stays at ``start``.
        temperature: as for ``info_nce``; only Λ / τ matters.
        negatives: as for ``info_nce``.
        space: as for ``info_nce``.
        symmetric: as for ``info_nce``.
        hardness: as for ``info_nce``.
        gather: as for ``info_nce``.
        tile: as for ``info_nce``.

    Raises:
        InputError: a setting is out of its range, such as a start that is not positive.
    """

    free: torch.Tensor

    def __init__(
        self,
        dim: int,
        *,
        tile: int | None = None,
        start: float | Sequence[float] = 5.0,
        form: Literal["diagonal", "full"] = "diagonal",
        link: Link = "softplus",
        learn: bool = True,
        temperature: float = 1.0,
        negatives: Negatives = "both",
        space: Space = "sphere",
        symmetric: bool = True,
        hardness: float = 0.0,
        gather: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise InputError(f"dim: expected a whole number of at least 1, got {dim!r}.")
        _check_settings(negatives, space, hardness, tile)
        if form not in ("diagonal", "full"):
            raise UnknownNameError.of("form", form, ("diagonal", "full"))
        if link not in _LINKS:
            raise UnknownNameError.of("link", link, _LINKS)
        _check_positive("temperature", temperature)
        starts = _read_start(dim, start)
        self.dim, self.start, self.form, self.link = dim, start, form, link
        self.learn, self.temperature, self.negatives = learn, temperature, negatives
        self.space, self.symmetric, self.hardness = space, symmetric, hardness
        self.gather, self.tile = gather, tile
        if form == "full":
            starts = starts.sqrt()
        free = _LINKS[link][1](starts).float()
        self.free = torch.nn.Parameter(free, requires_grad=learn)
        if form == "full":
            below = torch.zeros(dim * (dim - 1) // 2)
            self.below = torch.nn.Parameter(below, requires_grad=learn)

    @property
    def matrix(self) -> torch.Tensor:
        """Return Λ as ``(D, D)``, with its gradient."""
        return (
            torch.diag(self._compute_diagonal())
            if self.form == "diagonal"
            else self._compute_full()
        )

    @property
    def precision(self) -> torch.Tensor:
        """Return the diagonal of Λ as ``(D,)``, with its gradient."""
        return (
            self._compute_diagonal() if self.form == "diagonal" else self._compute_full().diagonal()
        )

    def forward(
        self,
        u: torch.Tensor,
        v: torch.Tensor,
        *,
        more_negatives: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss of a batch of pairs.

        Args:
            u: ``(B, D)``, one view.
            v: ``(B, D)``, the other.
            more_negatives: as for ``info_nce``.
            labels: as for ``info_nce``.

        Raises:
            InputError: as for ``info_nce``.
        """
        if isinstance(u, torch.Tensor) and u.ndim == 2 and u.shape[1] != self.dim:
            raise InputError(
                f"Expected vectors of length {self.dim}, got shape {tuple(u.shape)}: make the loss "
                f"as AnInfoNCE({u.shape[1]}), or change the encoder."
            )
        with torch.autocast(self.free.device.type, enabled=False):
            precision = (
                self._compute_diagonal() if self.form == "diagonal" else self._compute_full()
            )
        return info_nce(
            u,
            v,
            temperature=self.temperature,
            precision=precision,
            negatives=self.negatives,
            space=self.space,
            symmetric=self.symmetric,
            more_negatives=more_negatives,
            labels=labels,
            hardness=self.hardness,
            gather=self.gather,
            tile=self.tile,
        )

    def extra_repr(self) -> str:
        """Return the settings for ``repr``."""
        return f"{self.dim}, start={self.start}, negatives={self.negatives!r}, form={self.form!r}"

    def _compute_diagonal(self) -> torch.Tensor:
        return _LINKS[self.link][0](self.free)

    def _compute_full(self) -> torch.Tensor:
        factor = torch.diag(self._compute_diagonal())
        rows, columns = torch.tril_indices(self.dim, self.dim, -1, device=factor.device)
        factor = factor.index_put((rows, columns), self.below)
        return factor @ factor.T


class LossEnsemble(torch.nn.Module):
    """The mean of several losses, each on a slice of the embedding's dimensions.

    A factor that collapses under one loss may be kept under another: the losses share the encoder
    but no dimension.

    >>> ensemble = LossEnsemble([AnInfoNCE(2), AnInfoNCE(3, start=50.0)])
    >>> ensemble(torch.rand(4, 5) + 0.1, torch.rand(4, 5) + 0.1).ndim
    0

    Args:
        losses: in the order of their slices, each of length ``dim``.
        weights: of the losses, 0 or more; None weighs all equally.

    Raises:
        InputError: no losses, or weights that do not fit.
    """

    def __init__(
        self, losses: Sequence[AnInfoNCE], *, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if not losses:
            raise InputError("Expected at least one loss, got none.")
        chosen = [1.0] * len(losses) if weights is None else [float(each) for each in weights]
        if len(chosen) != len(losses) or not all(0 <= each < math.inf for each in chosen):
            raise InputError(
                f"weights: expected {len(losses)} numbers of 0 or more, got {weights!r}."
            )
        if sum(chosen) == 0:
            raise InputError("weights: expected one above 0, got zeros.")
        self.losses = torch.nn.ModuleList(losses)
        self.weights = chosen
        self.dims = [loss.dim for loss in losses]
        self.dim = sum(self.dims)

    def forward(
        self, u: torch.Tensor, v: torch.Tensor, *, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the weighted mean of the losses; ``u``, ``v``: ``(B, D)`` with the sum of their
        dims.
        """
        for view in (u, v):
            if view.ndim != 2 or view.shape[1] != self.dim:
                raise InputError(
                    f"Expected vectors of length {self.dim}, the sum over all losses, got shape "
                    f"{tuple(view.shape)}."
                )
        views = zip(torch.split(u, self.dims, 1), torch.split(v, self.dims, 1), strict=True)
        total = sum(
            weight * loss(*view, labels=labels)
            for weight, loss, view in zip(self.weights, self.losses, views, strict=True)
        )
        mean: torch.Tensor = total / sum(self.weights)
        return mean


# ---------------------------------------------------------------- one batch


class _Batch:
    """Pairs at the distance ``½ |a - b|²``; precision and temperature already scale the vectors."""

    def __init__(
        self,
        u: torch.Tensor,
        v: torch.Tensor,
        more: torch.Tensor | None,
        negatives: Negatives,
        symmetric: bool,
        gather: bool,
        tile: int | None,
    ) -> None:
        self.u, self.v, self.more = u, v, more
        self.negatives, self.symmetric, self.gather = negatives, symmetric, gather
        self.tile = tile or (TILE if u.device.type == "cpu" else TILE_CUDA)
        rank, processes = get_rank_and_size() if gather else (0, 1)
        self.pairs = len(u) * processes
        self.ids = torch.arange(len(u), device=u.device) + rank * len(u)
        if self.pairs < 2 and more is None:
            raise InputError(
                "Expected at least two pairs: a batch of one has no negatives; give more "
                "pairs, or more_negatives."
            )
        if negatives == "none" and more is None:
            raise InputError('negatives="none" has no negatives: give more_negatives.')

    def loss(self, hardness: float) -> torch.Tensor:
        """Return the mean over the anchors, each with one positive."""
        near = -_half_square(self.u - self.v)
        positives = torch.cat([near, near]) if self.symmetric else near
        negatives = self._log_sums(1.0)
        if hardness:
            # Σ w exp(-δ), where w is exp(-β δ) divided by its mean.
            count = math.log(self._count())
            negatives = self._log_sums(1 + hardness) - self._log_sums(hardness) + count
        return torch.nn.functional.softplus(negatives - positives).mean()

    def supervised_loss(self, labels: torch.Tensor, hardness: float) -> torch.Tensor:
        """Return the mean over the anchors, each with all positives of its label."""
        if hardness or self.negatives == "none":
            raise InputError('labels: expected hardness 0, and negatives "both" or "other".')
        labels = _check_labels(labels, self.u)
        u, v, all_labels = self.u, self.v, labels
        if self.gather:
            u, v, all_labels = gather_vectors(u), gather_vectors(v), gather_vectors(labels)
        total = u.new_zeros(())
        sides = [(self.u, v), (self.v, u)] if self.symmetric else [(self.u, v)]
        for anchors, others in sides:
            if self.negatives == "both":
                columns, of = torch.cat([others, v if others is u else u]), all_labels.repeat(2)
                # The columns are the other view, then the anchor's own view.
                own, all_ids = self.ids + self.pairs, torch.arange(len(columns), device=u.device)
                sums = row_log_sums(anchors, columns, own, all_ids, tile=self.tile)
            else:
                columns, of = others, all_labels
                sums = row_log_sums(anchors, columns, tile=self.tile)
            if self.more is not None:
                sums = torch.logaddexp(sums, self._sum_more(anchors, self.more))
            itself = 1 if self.negatives == "both" else 0
            total = total + (sums + _mean_distance(anchors, labels, columns, of, itself)).mean()
        return total / len(sides)

    def _log_sums(self, factor: float) -> torch.Tensor:
        """Return ``log Σ exp(-factor δ)`` over the negatives of all anchors."""
        root = math.sqrt(factor)
        u, v = (self.u, self.v) if factor == 1 else (self.u * root, self.v * root)
        sums = self._sum_batch(u, v)
        if self.more is None:
            return sums
        more = self.more if factor == 1 else self.more * root
        outside = [
            self._sum_more(anchors, more) for anchors in ((u, v) if self.symmetric else (u,))
        ]
        return torch.logaddexp(sums, torch.cat(outside))

    def _sum_batch(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if self.negatives == "none":
            return u.new_full((len(u) * (2 if self.symmetric else 1),), -torch.inf)
        ids, tile = self.ids, self.tile
        if self.symmetric and not self.gather:
            if self.negatives == "both":
                return own_log_sums(torch.cat([u, v]), ids.repeat(2), tile=tile)
            return torch.cat(both_log_sums(u, v, ids, ids, tile=tile))
        all_u, all_v = (gather_vectors(u), gather_vectors(v)) if self.gather else (u, v)
        all_ids = torch.arange(self.pairs, device=u.device)
        if self.negatives == "both":
            anchors = torch.cat([u, v]) if self.symmetric else u
            repeated = ids.repeat(2) if self.symmetric else ids
            columns = torch.cat([all_u, all_v])
            return row_log_sums(anchors, columns, repeated, all_ids.repeat(2), tile=tile)
        of_u = row_log_sums(u, all_v, ids, all_ids, tile=tile)
        if not self.symmetric:
            return of_u
        return torch.cat([of_u, row_log_sums(v, all_u, ids, all_ids, tile=tile)])

    def _sum_more(self, anchors: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        if more.ndim == 2:
            return row_log_sums(anchors, more, tile=self.tile)
        return (-_half_square(anchors[:, None] - more)).logsumexp(1)

    def _count(self) -> int:
        """Return the number of negatives of an anchor."""
        inside = {"both": 2 * (self.pairs - 1), "other": self.pairs - 1, "none": 0}
        return inside[self.negatives] + (0 if self.more is None else self.more.shape[-2])


def _half_square(difference: torch.Tensor) -> torch.Tensor:
    return difference.square().sum(-1) / 2


def _mean_distance(
    anchors: torch.Tensor,
    labels: torch.Tensor,
    columns: torch.Tensor,
    column_labels: torch.Tensor,
    itself: int,
) -> torch.Tensor:
    """Return for each anchor the mean distance to the columns of its label.

    ``Σ |a - p|² = n |a - m|² + Σ |p - m|²`` with their mean m: no matrix is needed. ``itself`` is
    the number of columns that are the anchor; they have distance 0 and do not count.
    """
    _, numbers = torch.unique(torch.cat([labels, column_labels]), return_inverse=True)
    own, of = numbers[: len(labels)], numbers[len(labels) :]
    kinds = int(numbers.max()) + 1
    counts = torch.zeros(kinds, dtype=columns.dtype, device=columns.device)
    counts = counts.index_add(0, of, torch.ones_like(of, dtype=columns.dtype))
    means = columns.new_zeros(kinds, columns.shape[1]).index_add(0, of, columns) / counts[:, None]
    within = columns.new_zeros(kinds).index_add(0, of, _half_square(columns - means[of]))
    between = counts[own] * _half_square(anchors - means[own])
    return (between + within[own]) / (counts[own] - itself)


# ---------------------------------------------------------------- settings


def _inverse_softplus(value: torch.Tensor) -> torch.Tensor:
    return value + torch.log(-torch.expm1(-value))


_LINKS: dict[
    str,
    tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]],
] = {
    "softplus": (torch.nn.functional.softplus, _inverse_softplus),
    "exp": (torch.exp, torch.log),
}
"""Link functions with their inverses."""

_NEGATIVES = ("both", "other", "none")
_SPACES = ("sphere", "euclidean")


_MAX_FLOAT32, _MAX_FLOAT64 = 1e15, 1e140
"""Values beyond these have squares that overflow float32, and float64."""


def _read_start(dim: int, start: float | Sequence[float]) -> torch.Tensor:
    try:
        starts = torch.as_tensor(start, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"start: expected a number or {dim} of them, got {start!r}.") from error
    if starts.ndim > 1 or (starts.ndim == 1 and len(starts) != dim):
        raise InputError(f"start: expected one number or {dim}, got {start!r}.")
    if not bool(((starts > 0) & torch.isfinite(starts)).all()):
        raise InputError(f"start: expected precisions above 0, got {start!r}.")
    return starts.expand(dim).clone()


def _check_settings(negatives: str, space: str, hardness: float, tile: int | None) -> None:
    if negatives not in _NEGATIVES:
        raise UnknownNameError.of("negatives", negatives, _NEGATIVES)
    if space not in _SPACES:
        raise UnknownNameError.of("space", space, _SPACES)
    if isinstance(hardness, bool) or not 0 <= hardness < math.inf:
        raise InputError(f"hardness: expected 0 or more, got {hardness!r}.")
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int) or tile < 1):
        raise InputError(f"tile: expected a whole number of at least 1, or None, got {tile!r}.")


def _check_views(u: torch.Tensor, v: torch.Tensor) -> None:
    for name, view in (("u", u), ("v", v)):
        if not isinstance(view, torch.Tensor) or view.ndim != 2 or not view.is_floating_point():
            got = (
                f"{tuple(view.shape)} of {view.dtype}"
                if isinstance(view, torch.Tensor)
                else type(view).__name__
            )
            raise InputError(f"{name}: expected a floating tensor of shape (B, D), got {got}.")
    if u.shape != v.shape:
        raise InputError(
            f"The two views must have the same shape, one row per image: got {tuple(u.shape)} and "
            f"{tuple(v.shape)}."
        )
    if len(u) == 0 or u.shape[1] == 0:
        raise InputError(f"The views are empty: got shape {tuple(u.shape)}.")


def _check_more(more: torch.Tensor, u: torch.Tensor) -> None:
    fits = more.ndim == 2 or (more.ndim == 3 and len(more) == len(u))
    if not fits or more.shape[-1] != u.shape[1] or more.shape[-2] == 0:
        raise InputError(
            f"more_negatives: expected the shape (M, {u.shape[1]}) or ({len(u)}, M, {u.shape[1]}), "
            f"got {tuple(more.shape)}."
        )


def _check_labels(labels: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    if not isinstance(labels, torch.Tensor) or labels.shape != (len(u),):
        got = tuple(labels.shape) if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise InputError(f"labels: expected a tensor of shape ({len(u)},), got {got}.")
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"labels: expected whole numbers, got {labels.dtype}.")
    return labels.to(u.device, torch.int64)


def _to_space(vectors: torch.Tensor, name: str, space: Space) -> torch.Tensor:
    """Return vectors in float32 or float64, normalized if the space is the sphere."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    if not bool(torch.isfinite(vectors.detach().sum())) and not bool(
        torch.isfinite(vectors.detach()).all()
    ):
        raise InputError(
            f"{name}: {_describe_rows(~torch.isfinite(vectors))} NaN or infinite values."
        )
    if space == "euclidean":
        return vectors
    vectors, lengths = measure_tensor_rows(vectors)
    if bool((lengths.detach() == 0).any()):
        raise InputError(
            f"{name}: {_describe_rows(lengths == 0)} a length of zero, which cannot be normalized; "
            'check the encoder, or take space="euclidean".'
        )
    placed: torch.Tensor = vectors / lengths
    return placed


def _center(
    first: torch.Tensor, second: torch.Tensor, more: torch.Tensor | None, gather: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Subtract one vector from all, which changes no distance.

    Far from the origin float32 products cancel; the squares of very long vectors overflow float32.

    Raises:
        InputError: vectors so long that their squares overflow float64.
    """
    given = [first, second] if more is None else [first, second, more]
    largest = torch.stack([each.detach().abs().amax() for each in given]).amax()
    peak = float(all_reduce_max(largest) if gather else largest)
    if peak > _MAX_FLOAT64:
        raise InputError(
            f"Expected values of at most {_MAX_FLOAT64:g} over the root of the temperature, got "
            f"{peak:g}: their squared distances cannot be computed."
        )
    if peak > _MAX_FLOAT32:
        given = [each.double() for each in given]
    center = given[0].detach().mean(0)
    if gather:
        center = all_reduce_mean(center)
    moved = [each - center for each in given]
    return moved[0], moved[1], None if more is None else moved[2]


def _describe_rows(mask: torch.Tensor) -> str:
    rows = mask.flatten(0, -2).any(-1).nonzero().ravel()
    return f"row {int(rows[0])} has" if len(rows) == 1 else f"{len(rows)} rows have"


def _make_scaling(
    u: torch.Tensor, temperature: float | torch.Tensor, precision: torch.Tensor | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the linear map after which half the squared distance is δ."""
    _check_positive("temperature", temperature)
    root = (
        temperature.to(u.device).rsqrt()
        if isinstance(temperature, torch.Tensor)
        else 1 / math.sqrt(temperature)
    )
    if precision is None:
        return lambda vectors: (vectors * root).to(vectors.dtype)
    dim = u.shape[1]
    if not isinstance(precision, torch.Tensor) or precision.is_complex():
        got = precision.dtype if isinstance(precision, torch.Tensor) else type(precision).__name__
        raise InputError(f"precision: expected a tensor of real numbers, got {got}.")
    if not precision.is_floating_point():
        precision = precision.float()
    if precision.shape == (dim,):
        if not bool(((precision > 0) & torch.isfinite(precision)).all()):
            raise InputError(
                f"precision: expected numbers above 0, got {precision.detach().tolist()}."
            )
        roots = precision.to(u.device).sqrt() * root
        return lambda vectors: vectors * roots.to(vectors.dtype)
    if precision.shape != (dim, dim):
        raise InputError(
            f"precision: expected the shape ({dim},) or ({dim}, {dim}), got "
            f"{tuple(precision.shape)}."
        )
    # The distance depends on the symmetric part only, the Cholesky factor on the lower triangle.
    symmetric = (precision + precision.T).to(u.device) / 2
    factor, failed = torch.linalg.cholesky_ex(symmetric)
    if bool(failed) or not bool(torch.isfinite(factor).all()):
        raise InputError("precision: expected a positive definite matrix, got one that is not.")
    factor = factor * root
    return lambda vectors: vectors @ factor.to(vectors.dtype)


def _check_positive(name: str, value: float | torch.Tensor) -> None:
    if isinstance(value, torch.Tensor):
        number = float(value.detach()) if value.numel() == 1 else math.nan
    else:
        number = float(value)
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise InputError(f"{name}: expected a number above 0, got {value!r}.")
