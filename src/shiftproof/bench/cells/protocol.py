"""The protocol: the order of the images, the batches, and when an adapter is reset.

A number of an adapter means nothing without it: the papers on adaptation at test time each take
another one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.specs import Readers, read_options, split_name

if TYPE_CHECKING:
    from shiftproof.types import Settings

Mode = Literal["online", "offline"]
Reset = Literal["cell", "corruption", "never"]
Mix = Literal["none", "severities", "all"]
Order = Literal["shuffled", "sorted", "dirichlet"]
Severity = Literal["rising", "gradual"]

_CHOICES: Final = {"mode": Mode, "reset": Reset, "mix": Mix, "order": Order, "severity": Severity}

CONCENTRATION = 0.1
"""Of the Dirichlet distribution where nothing else is said, as in NOTE (arXiv 2208.05117)."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the images of the grid are shown to the models.

    A model as it is gives the same answers under every protocol: it predicts each image by itself.
    The clean images are a stream of their own, with a reset before it, in whatever mode and order.

    Args:
        mode: ``"online"`` predicts each image once, while the model adapts. ``"offline"`` first
            lets it adapt for ``epochs`` passes over all images between two resets, then predicts
            them all in a further pass in which it learns nothing (Rusak et al. 2022, arXiv
            2104.12928). The passes come in new orders, the last in the order of ``"online"``.
        epochs: passes of the offline mode, 1 if None; None online.
        reset: what begins with a reset: each ``"cell"`` (a corruption at a severity), each
            ``"corruption"`` with its severities one after the other, or, with ``"never"``, the
            whole grid (continual, as in CoTTA, Wang et al. 2022, arXiv 2203.13591). None takes
            the finest that the rest allows.
        mix: ``"none"`` makes batches of one cell; ``"severities"`` of all severities of one
            corruption (Schneider et al. 2020, arXiv 2006.16971, Table 1); ``"all"`` of all
            corrupted cells.
        order: ``"shuffled"``; ``"sorted"`` by label, the trap for whatever normalizes by the
            batch; or ``"dirichlet"``, classes that come in bursts
            (:func:`~shiftproof.bench.cells.stream.order_in_bursts`).
        concentration: of the Dirichlet distribution, above 0: the smaller, the longer the bursts;
            ``CONCENTRATION`` if None; None in other orders.
        severity: ``"rising"`` from the mildest to the strongest, or ``"gradual"``: up and down
            again without a reset, as in CoTTA. Each severity but the strongest is then visited
            twice, and its images are dealt out to the two visits.

    Raises:
        UnknownNameError: a value that the field does not take.
        InputError: a number out of range, or fields that contradict each other.

    >>> Protocol(mode="offline", epochs=5).description
    'offline, 5 passes to adapt and one to predict; reset before each cell; images shuffled'
    """

    mode: Mode = "online"
    epochs: int | None = None
    reset: Reset | None = None
    mix: Mix = "none"
    order: Order = "shuffled"
    concentration: float | None = None
    severity: Severity = "rising"

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(kind) and not (name == "reset" and value is None):
                raise UnknownNameError.of(f"{name} of a protocol", value, get_args(kind))
        if self.mode == "offline" and self.epochs is None:
            object.__setattr__(self, "epochs", 1)
        if self.order == "dirichlet" and self.concentration is None:
            object.__setattr__(self, "concentration", CONCENTRATION)
        if self.reset is None:
            object.__setattr__(self, "reset", self._finest_reset())
        self._check_numbers()
        self._check_together()

    def __str__(self) -> str:
        """Return the text that :func:`parse_protocol` reads."""
        filled = Protocol(mode=self.mode, mix=self.mix, order=self.order, severity=self.severity)
        default = Protocol()
        options = [
            f"{name}={value}"
            for names, known in (
                (("mix", "order", "severity"), default),
                (("epochs", "reset", "concentration"), filled),
            )
            for name in names
            if (value := getattr(self, name)) != getattr(known, name)
        ]
        return f"{self.mode}:{','.join(options)}" if options else self.mode

    @property
    def settings(self) -> Settings:
        """All fields as JSON takes them, before them the description."""
        return {"description": self.description, **asdict(self)}

    @property
    def description(self) -> str:
        """The protocol in words, in one line."""
        parts = [
            "online, each image predicted once while the model adapts"
            if self.epochs is None
            else f"offline, {self.epochs} {'pass' if self.epochs == 1 else 'passes'} to adapt and "
            "one to predict",
            {
                "cell": "reset before each cell",
                "corruption": "reset before each corruption",
                "never": "never reset between the corruptions",
            }[self.reset or "cell"],
        ]
        if self.mix == "severities":
            parts.append("batches mix the severities of a corruption")
        elif self.mix == "all":
            parts.append("batches mix all corruptions and severities")
        elif self.severity == "gradual":
            parts.append("severities rise and fall again")
        elif self.reset != "cell":
            parts.append("severities rise")
        parts.append(
            {
                "shuffled": "images shuffled",
                "sorted": "images sorted by label",
                "dirichlet": "classes in bursts (Dirichlet, concentration "
                f"{self.concentration or 0:g})",
            }[self.order]
        )
        return "; ".join(parts)

    @property
    def needs_labels(self) -> bool:
        """Whether the order of the images follows their labels."""
        return self.order != "shuffled"

    def _finest_reset(self) -> Reset:
        if self.mix == "all":
            return "never"
        return "corruption" if self.mix == "severities" or self.severity == "gradual" else "cell"

    def _check_numbers(self) -> None:
        epochs, concentration = self.epochs, self.concentration
        if epochs is not None and (
            isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1
        ):
            raise InputError(f"Expected epochs of 1 or more, got {epochs!r}.")
        if concentration is not None and (
            isinstance(concentration, bool)
            or not isinstance(concentration, int | float)
            or not 0 < concentration < math.inf
        ):
            raise InputError(f"Expected a concentration above 0, got {concentration!r}.")

    def _check_together(self) -> None:
        if self.mode == "online" and self.epochs is not None:
            raise InputError(
                "An online protocol predicts each image once, so it has no epochs; leave them out, "
                f"or write offline:epochs={self.epochs}."
            )
        if self.order != "dirichlet" and self.concentration is not None:
            raise InputError(
                f"A concentration belongs to order=dirichlet, and this order is {self.order}; "
                "leave one of them out."
            )
        if self.severity == "gradual" and self.mix != "none":
            raise InputError(
                f"severity=gradual sets an order of the severities and mix={self.mix} takes it "
                "away; leave one of them out."
            )
        finest = self._finest_reset()
        allowed = get_args(Reset)[get_args(Reset).index(finest) :]
        if self.reset not in allowed:
            what = "severity=gradual" if self.severity == "gradual" else f"mix={self.mix}"
            raise InputError(
                f"With {what} several cells lie between two resets, so reset={self.reset} cannot "
                f"be; expected reset={' or '.join(allowed)}."
            )


_READERS: Final[Readers] = {
    "epochs": int,
    "reset": str,
    "mix": str,
    "order": str,
    "concentration": float,
    "severity": str,
}


def parse_protocol(text: str) -> Protocol:
    """Read the protocol that a text names, as the command line spells it.

    Args:
        text: ``MODE`` or ``MODE:OPTION=VALUE,OPTION=VALUE``: ``"online"``, ``"offline:epochs=5"``,
            ``"online:mix=severities"``, ``"online:reset=never,order=dirichlet"``.

    Raises:
        UnknownNameError: no such mode, option or value; says the nearest.
        InputError: an option without a value, given twice, of the wrong kind, or that contradicts
            another.

    >>> parse_protocol("online:mix=severities").reset
    'corruption'
    """
    mode, rest = split_name(text)
    options = read_options(rest, _READERS, spec=text, owner="a protocol")
    if mode not in get_args(Mode):
        raise UnknownNameError.of("protocol", mode, get_args(Mode))
    options["mode"] = mode
    return Protocol(**options)


def read_protocol(protocol: Protocol | str) -> Protocol:
    """Return a protocol as it is, or that which a text names."""
    return parse_protocol(protocol) if isinstance(protocol, str) else protocol
