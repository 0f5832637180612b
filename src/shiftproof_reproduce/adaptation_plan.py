"""The plan of the comparison of adaptation methods: methods, protocols and sizes."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof_reproduce.adaptation_sources import DataName, NetName, Training

ALL: tuple[NetName, ...] = ("resnet", "groupnorm", "vit", "clip")
BATCH_NORM: tuple[NetName, ...] = ("resnet", "clip")
"""The networks with batch norm."""


LEFT_OUT: dict[tuple[DataName, NetName], str] = {
    ("glyphs", "vit"): "trained from scratch on 50 images of each of 277 letters, it was wrong on "
    "99.5 % of the clean test images; shorter trials at 0.3, 1 and 2 times the learning rate, with "
    "group norm in its stem or with the mean of its tokens, did not begin to learn either",
}
"""Networks that are not compared on a dataset, and why."""

SOURCE = "source"
"""Name of the unadapted network in runs and tables."""

RATES = ("0.01", "0.05", "0.25")
"""Learning rates of SGD at the first protocol's batch size; in proportion for other sizes."""

ADAM_RATES = ("0.0001", "0.0005", "0.002")
"""Learning rates of methods whose steps do not depend on the batch size."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: name of its folders.
        title: title in tables.
        spec: spec for ``make_adapter``, with ``{}`` for the tried value.
        tries: values tried on the hold-out corruptions, the same number for every method; a single
            one for a default.
        nets: the networks it supports.
        by_batch: whether the tried value is a rate in proportion to the batch size.
        alone: whether it predicts each image independently, so that one protocol suffices.
    """

    name: str
    title: str
    spec: str
    tries: tuple[str, ...]
    nets: tuple[NetName, ...] = ALL
    by_batch: bool = False
    alone: bool = False

    def fill(self, tried: str, *, batch: int, usual: int) -> str:
        """Return the spec with the tried value; rates are for the usual batch size."""
        if not self.by_batch:
            return self.spec.format(tried)
        return self.spec.format(f"{float(tried) * batch / usual:.6g}")


# Common tries and networks of several rows.
_with_rates = functools.partial(Method, tries=RATES, by_batch=True)
_with_adam = functools.partial(Method, tries=ADAM_RATES)
_batch_norm = functools.partial(Method, spec="batchnorm:prior={}", nets=BATCH_NORM)
_clip_alone = functools.partial(Method, nets=("clip",))

METHODS: tuple[Method, ...] = (
    _batch_norm(name="batchnorm", title="batch norm", tries=("measured", "16", "0")),
    _batch_norm(name="batchnorm-auto", title="batch norm, default", tries=("auto",)),
    _with_rates(name="ent", title="ENT", spec="ent:prior=measured,lr={}"),
    _with_rates(name="rpl", title="RPL", spec="rpl:prior=measured,lr={}"),
    _with_rates(name="rpl-auto", title="RPL, default prior", spec="rpl:lr={}", nets=BATCH_NORM),
    _with_rates(name="eata", title="ETA", spec="eata:prior=measured,lr={}"),
    _with_rates(name="sar", title="SAR", spec="sar:prior=measured,lr={}"),
    _with_rates(name="deyo", title="DeYO", spec="deyo:prior=measured,lr={}"),
    _with_rates(name="roid", title="ROID", spec="roid:prior=measured,correction=true,lr={}"),
    _with_adam(name="cotta", title="CoTTA", spec="cotta:augmentations=4,prior=0,lr={}"),
    _with_adam(name="rotta", title="RoTTA", spec="rotta:few_classes=learn,lr={}"),
    _with_adam(name="note", title="NOTE", spec="note:k=4,lr={}"),
    Method(name="lame", title="LAME", spec="lame:neighbors={}", tries=("1", "3", "5")),
    Method(name="t3a", title="T3A", spec="t3a:per_class={}", tries=("5", "20", "100")),
    _with_rates(
        name="rdumb-ent", title="RDumb over ENT", spec="rdumb:every=20+ent:prior=measured,lr={}"
    ),
    _with_rates(name="guard-ent", title="ENT, guarded", spec="guard+ent:prior=measured,lr={}"),
    _with_rates(
        name="router",
        title="router: source, batch norm, ENT",
        spec="router:experts=batchnorm:prior=measured+ent:prior=measured,lr={}",
    ),
    Method(
        name="memo",
        title="MEMO, 8 views",
        spec="memo:augmentations=8,lr={}",
        tries=("0.00025", "0.001", "0.004"),
        alone=True,
    ),
    _clip_alone(name="tda", title="TDA", spec="tda:alpha={}", tries=("1", "2", "4")),
    _clip_alone(
        name="clipartt",
        title="CLIPArTT, 5 steps",
        spec="clipartt:steps=5,lr={}",
        tries=("0.0001", "0.001", "0.005"),
    ),
    _clip_alone(
        name="zero",
        title="ZERO, 16 views",
        spec="zero:views=16,share={}",
        tries=("0.1", "0.3", "0.5"),
        alone=True,
    ),
    _clip_alone(
        name="tpt",
        title="TPT, 8 views",
        spec="tpt:views=8,share=0.4,lr={}",
        tries=("0.001", "0.005", "0.02"),
        alone=True,
    ),
)
"""The rows. To add one, add an entry: finished cells are reused."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A column of the comparison: the order of the images.

    Attributes:
        name: name of its folders.
        title: title in tables.
        protocol: spec for ``parse_protocol``.
        batch: images per batch.
        images: images of each corruption.
    """

    name: str
    title: str
    protocol: str = "online"
    batch: int = 32
    images: int = 256


STREAMS: tuple[Stream, ...] = (
    Stream(name="online", title="online"),
    Stream(name="mixed", title="corruptions mixed", protocol="online:mix=all"),
    Stream(name="continual", title="continual", protocol="online:reset=never"),
    Stream(name="sorted", title="sorted by class", protocol="online:order=sorted"),
    Stream(name="dirichlet", title="classes in bursts", protocol="online:order=dirichlet"),
    Stream(name="small", title="batches of 4", batch=4, images=128),
    Stream(name="single", title="single images", batch=1, images=64),
)
"""The columns; the first has the usual batch size, and is used for the hold-out."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment. The defaults are the small scale; tests use smaller ones.

    ``good_enough`` is the upper limit of a network's clean error, by dataset. ``severity`` is that
    of all corrupted images. ``left_out`` are the networks that are not compared on a dataset, and
    why.
    """

    training: Training = dataclasses.field(default_factory=Training)
    good_enough: dict[DataName, float] = dataclasses.field(
        default_factory=lambda: {"fashion": 0.2, "glyphs": 0.6}
    )
    data: tuple[DataName, ...] = ("fashion", "glyphs")
    nets: tuple[NetName, ...] = ALL
    left_out: dict[tuple[DataName, NetName], str] = dataclasses.field(
        default_factory=lambda: dict(LEFT_OUT)
    )
    methods: tuple[Method, ...] = METHODS
    streams: tuple[Stream, ...] = STREAMS
    corruptions: tuple[str, ...] = COMMON
    holdout: tuple[str, ...] = HOLDOUT
    severity: int = 3
    holdout_images: int = 128

    def list_nets(self, data: DataName) -> list[NetName]:
        """Return the networks that are compared on a dataset."""
        return [net for net in self.nets if (data, net) not in self.left_out]

    def list_data(self, net: NetName) -> list[DataName]:
        """Return the datasets on which a network is compared."""
        return [data for data in self.data if (data, net) not in self.left_out]

    def list_methods(self, net: NetName) -> list[Method]:
        """Return the methods that support a network."""
        return [method for method in self.methods if net in method.nets]

    def is_measured(self, method: Method, stream: Stream) -> bool:
        """Return whether a cell is measured: methods that predict images independently only in the
        last column.
        """
        return not method.alone or stream == self.streams[-1]
