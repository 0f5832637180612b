"""The page that says which adapter to use, from what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages.tables import write_table

from shiftproof_reproduce import read_result
from shiftproof_reproduce.rendering import write_markdown

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "benchmarks" / "results"
RESULTS = ROOT / "results"

METHODS = "adaptation-methods"
"""The result that compares the methods of the literature, shown once it lies under ``results/``."""


@dataclass(frozen=True)
class Case:
    """What an adapter changed in a situation, in points of error against the model as it is."""

    situation: tuple[str, str, str]
    adapter: str
    change: tuple[float, float, float]


def read_cases() -> list[Case]:
    """Return what was measured: this function alone knows where and in which form it lies."""
    rows = json.loads((MEASURED / "batch_sizes.json").read_text("utf-8"))["rows"]
    return [Case(_name_situation(row), row["adapter"], tuple(row["change"])) for row in rows]


def read_costs() -> dict[str, dict[str, Any]]:
    """Return what each method costs: passes per image, and times a plain forward pass."""
    found: dict[str, dict[str, Any]] = json.loads(
        (MEASURED / "adaptation_methods.json").read_text("utf-8")
    )["methods"]
    return found


def write_methods() -> str:
    """Return the page."""
    parts = [
        "# Which method should I use?",
        _ADVICE,
        "## By the images that come",
        "The methods were measured on a small ResNet (Fashion-MNIST) and EfficientNet-Lite0 "
        "(20 photographs) at severity 3, paired with the model without adaptation. A method “gains” or "
        "“harms” if the whole 95 % interval of the difference is below or above 0. The number in "
        "brackets is the change of the error in percentage points. “No difference shown” is the number "
        "of the other measured methods.",
        _write_situations(read_cases()),
        "The constants of `prior=auto` were chosen on images of such networks, so the clean rows "
        "are not an independent test. [Adaptation](adaptation.md) has all figures with intervals.",
        "## Under corruption",
        *_write_results(),
        "## What a method costs",
        "Forward and backward passes per image, and time relative to a plain forward pass "
        "(ResNet-18, 32 x 32 pixels, one thread).",
        _write_costs(read_costs()),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


_ADVICE = """\
Start with batch-norm adaptation:

```bash
shiftproof bench --model timm:resnet50 --data photos --adapt batchnorm --out run
```

It needs a network with batch norm, and takes one forward pass. On clean images its largest loss was \
0.8 points (0.0 to 2.0), which is not significant. In these cases, use another method:

- **You know nothing about the future images**: `guard+batchnorm`. If adaptation looks harmful, the \
original model is used.
- **Batches of a hundred or more, classes mixed**: `batchnorm:prior=0`, or `rpl:preset=paper`.
- **A long stream of one kind of images**: `rpl`, or `ent` if there are few classes.
- **Images of a few classes at a time**: `lame` gains there. The defaults keep the source's statistics \
for such batches. A number as prior does harm.
- **Single images**: `batchnorm:prior=16` under strong shifts, never `prior=0`; `memo` if you have the time.
- **No batch norm (ViT, ConvNeXt)**: `rpl`, `ent` and `sar` adapt the scale and shift of layer norm.

Select the method on corruptions that you do not report. `--corruptions holdout` has four for this \
purpose. The rest of this page shows the measurements behind the advice."""


def _name_situation(row: dict[str, Any]) -> tuple[str, str, str]:
    order = {"mixed": "classes mixed", "sorted": "sorted by class"}.get(
        row["stream"], row["stream"]
    )
    return row["condition"].replace("_", " "), order, str(row["n"])


def _write_situations(cases: list[Case]) -> str:
    rows = []
    for situation in sorted(
        {case.situation for case in cases}, key=lambda named: (named[:2], int(named[2]))
    ):
        here = [case for case in cases if case.situation == situation]
        rows.append(
            (
                *situation,
                str(sum(case.change[1] <= 0 <= case.change[2] for case in here)),
                _list_cases([case for case in here if case.change[2] < 0]),
                _list_cases([case for case in here if case.change[1] > 0]),
            )
        )
    head = ("images", "order", "batch", "no difference shown", "gains", "harms")
    return write_table(head, rows)


def _list_cases(cases: list[Case]) -> str:
    """Name the adapters by their change, those of one change together."""
    adapters: dict[str, dict[str, None]] = {}
    for case in sorted(cases, key=lambda case: case.change[0]):
        adapters.setdefault(f"{case.change[0]:+.1f}", {})[f"`{case.adapter}`"] = None
    return (
        "; ".join(f"{', '.join(named)} ({change})" for change, named in adapters.items()) or "none"
    )


def _write_results() -> list[str]:
    """Return the tables of the committed experiments, with a link to each."""
    parts = []
    for name, table in (("bn-adaptation", "sizes"), ("self-learning", "methods")):
        result = read_result(RESULTS / name / "result.json")
        parts += [f"### {result.title}", write_markdown(result.table(table))]
        parts.append(
            "Error in %; “source” is the model without adaptation. "
            f"More in [results/{name}](../results/{name}/README.md)."
        )
    if (RESULTS / METHODS / "result.json").exists():
        result = read_result(RESULTS / METHODS / "result.json")
        parts.append(f"### {result.title}")
        for shown in result.tables:
            parts += [f"**{shown.title}**", write_markdown(shown), shown.note or ""]
        parts.append(f"More in [results/{METHODS}](../results/{METHODS}/README.md).")
    return parts


def _write_costs(costs: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            f"`{name}`",
            f"{cost['passes_per_image']['forward']:g}",
            f"{cost['passes_per_image']['backward']:g}",
            f"{cost['ratio']:.3g} ({min(cost['ratios']):.3g}–{max(cost['ratios']):.3g})",
        )
        for name, cost in costs.items()
    ]
    head = ("adapter", "forward", "backward", "times a plain pass, median and range")
    return write_table(head, rows, numbers=True)
