"""What the comparison of adaptation methods measures: methods, protocols and sizes, as data."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof_reproduce.adaptation_sources import DataName, NetName, Training

ALL: tuple[NetName, ...] = ("resnet", "groupnorm", "vit", "clip")
BATCH_NORM: tuple[NetName, ...] = ("resnet", "clip")
"""The networks that have it."""


LEFT_OUT: dict[tuple[DataName, NetName], str] = {
    ("glyphs", "vit"): "trained from scratch on 50 images of each of 277 letters, it was wrong on "
    "99.5 % of the clean test images; shorter trials at 0.3, 1 and 2 times the learning rate, with "
    "group norm in its stem or with the mean of its tokens, did not begin to learn either",
}
"""Networks that are not compared on a dataset, and why."""

SOURCE = "source"
"""The network as it is, which stands in the tables beside the methods."""

RATES = ("0.01", "0.05", "0.25")
"""Of SGD at a batch of the first protocol's size; of other batches in proportion."""

ADAM_RATES = ("0.0001", "0.0005", "0.002")
"""Of methods whose steps do not depend on the size of the batch."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: of its folders.
        title: what tables call it.
        spec: what ``make_adapter`` takes, with ``{}`` where what is tried stands.
        tries: tried on the hold-out corruptions, as many as of every other method; one where it is the
            default that is measured.
        nets: that it is for.
        by_batch: what is tried is a rate in proportion to the batch.
        alone: whether it answers each image by itself, so that one protocol tells all.
    """

    name: str
    title: str
    spec: str
    tries: tuple[str, ...]
    nets: tuple[NetName, ...] = ALL
    by_batch: bool = False
    alone: bool = False

    def fill(self, tried: str, *, batch: int, usual: int) -> str:
        """Return the spec with what is tried; rates are of the usual batch."""
        if not self.by_batch:
            return self.spec.format(tried)
        return self.spec.format(f"{float(tried) * batch / usual:.6g}")


# What several rows share: what is tried, and for which networks.
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
"""The rows. One more is one entry here: cells that are measured already stay."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A column of the comparison: how the images come.

    Attributes:
        name: of its folders.
        title: what tables call it.
        protocol: what ``parse_protocol`` takes.
        batch: images of a batch.
        images: of each corruption.
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
"""The columns; the first has the batch that rates are of, and is that of the hold-out."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured. The defaults are the small scale; tests take less.

    ``good_enough`` is the clean error that a network must be below, by dataset. ``severity`` is that
    of all corrupted images. ``left_out`` says which networks are not compared on a dataset, and why.
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
        """Return the methods that are for a network."""
        return [method for method in self.methods if net in method.nets]

    def is_measured(self, method: Method, stream: Stream) -> bool:
        """Whether a cell is measured: of what answers images by themselves the last column alone."""
        return not method.alone or stream == self.streams[-1]
