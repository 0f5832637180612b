"""A page for each paper: what it claims, what it printed, and what was measured here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pages.tables import write_table

from shiftproof.metrics import ALEXNET_CLEAN_ERROR, ALEXNET_ERROR
from shiftproof.report import corruption_title
from shiftproof_reproduce import read_result
from shiftproof_reproduce.published import read_detectors, read_errors, read_test_sets
from shiftproof_reproduce.rendering import write_markdown

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
OWN = "shiftproof"
"""The source of a claim that no paper makes."""

VERDICTS = {"yes": "yes", "no": "**no**", "undecided": "undecided"}


@dataclass(frozen=True)
class Paper:
    """A paper as its page has it.

    Attributes:
        short: authors and year.
        title: its title.
        where: where it was published, with the number in arXiv.
        says: what it says, a paragraph.
        how: what the reader types to do the same.
        results: the folders of ``results/`` with the findings, the nearest to the paper first.
        measured: tables of the first result to show, by name.
        note: what a reader has to know before the two are compared.
    """

    short: str
    title: str
    where: str
    says: str
    how: str
    results: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    note: str = ""


SMALL = (
    "The networks here are small and were trained on small images. So the findings below are valid "
    "for such networks only, and the figures cannot be compared with those of the paper."
)

PAPERS: dict[str, Paper] = {
    "hendrycks-2019": Paper(
        "Hendrycks & Dietterich 2019",
        "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
        "ICLR 2019, [arXiv 1903.12261](https://arxiv.org/abs/1903.12261)",
        "The paper introduces ImageNet-C: fifteen corruptions at five severities, applied to the "
        "validation images of ImageNet. For each corruption a classifier's error is divided by "
        "AlexNet's (CE); the mean of the fifteen is mCE. ImageNet-P measures how often the first "
        "prediction changes from frame to frame.",
        "shiftproof bench --model timm:resnet50 --data imagenet/val --out run\n"
        "shiftproof perturb --model timm:resnet50 --data imagenet/val --out steady",
    ),
    "michaelis-2019": Paper(
        "Michaelis et al. 2019",
        "Benchmarking Robustness in Object Detection: Autonomous Driving when Winter is Coming",
        "[arXiv 1907.07484](https://arxiv.org/abs/1907.07484)",
        "The paper measures detectors under the fifteen corruptions of ImageNet-C. They lose between a "
        "third and two thirds of their performance. mPC is the mean performance over corruptions and "
        "severities, rPC is mPC divided by the clean performance. Training on photographs together with "
        "their stylized copies recovers a part of the loss.",
        "shiftproof detect --model torchvision:fasterrcnn_resnet50_fpn --data VOCdevkit --out run\n"
        "shiftproof stylize coco coco-combined --combined\n"
        "shiftproof reproduce detection --out detection",
        ("detection",),
        ("summary",),
        "The detectors here are small and find tinted items on photographs. So the findings below are "
        "valid for such detectors only, and the figures cannot be compared with those of the paper.",
    ),
    "schneider-2020": Paper(
        "Schneider et al. 2020",
        "Improving robustness against common corruptions by covariate shift adaptation",
        "NeurIPS 2020, [arXiv 2006.16971](https://arxiv.org/abs/2006.16971)",
        "Batch norm uses the mean and variance of the training images. The paper replaces them by those "
        "of the test images, or by a mixture of both. This lowers the error under corruption, without "
        "labels and without training. In the tables N is the weight of the training set's statistics, "
        "as a number of images, and n is the size of the batch.",
        "shiftproof bench --model timm:resnet50 --data ImageNet-C --adapt batchnorm "
        "--protocol online:mix=severities --out run\n"
        "shiftproof reproduce bn-adaptation --out bn",
        ("bn-adaptation",),
        ("methods",),
        SMALL,
    ),
    "rusak-2022": Paper(
        "Rusak et al. 2022",
        "If your data distribution shifts, use self-learning",
        "TMLR 2022, [arXiv 2104.12928](https://arxiv.org/abs/2104.12928)",
        "In the paper a network learns from its own predictions on the test images. This gains more than "
        "only adapting the statistics. ENT lowers the entropy of the predictions. RPL uses pseudo-labels "
        "with a loss that is robust to wrong labels. Only scale and shift of the norm layers change.",
        'shiftproof bench --model timm:resnet50 --data ImageNet-C --adapt "ent rpl" --out run\n'
        "shiftproof reproduce self-learning --out sl",
        ("self-learning",),
        ("methods",),
        SMALL,
    ),
    "mayilvahanan-2024": Paper(
        "Mayilvahanan et al. 2024",
        "Does CLIP's generalization performance mainly stem from high train-test similarity?",
        "ICLR 2024, [arXiv 2310.09562](https://arxiv.org/abs/2310.09562)",
        "CLIP is accurate on ImageNet-Sketch and ImageNet-R, and its training set contains images that "
        "are similar to theirs. The paper removes all training images that are closer to a test image "
        "than ImageNet's training set is. Most of the accuracy remains, so similarity alone does not "
        "explain it.",
        "shiftproof audit laion --test sketch=sketch --reference imagenet --out audit\n"
        "shiftproof prune laion --test sketch=sketch --reference imagenet --out keep\n"
        "shiftproof reproduce train-test-similarity --out tts",
        ("train-test-similarity",),
        ("shared",),
        SMALL,
    ),
    "rusak-2025": Paper(
        "Rusak et al. 2025",
        "InfoNCE: Identifying the Gap Between Theory and Practice",
        "AISTATS 2025, [arXiv 2407.00143](https://arxiv.org/abs/2407.00143)",
        "InfoNCE recovers the latents of the data only if all of them vary equally between two views of "
        "an image. AnInfoNCE learns how much each latent varies (the precision Λ) and recovers all of "
        "them. On images it keeps more information on the augmentations, and loses class accuracy.",
        "shiftproof reproduce aninfonce --out an\n"
        "shiftproof reproduce aninfonce --scale medium --out medium",
        ("aninfonce-medium", "aninfonce", "aninfonce-fashion"),
        ("published",),
    ),
}
"""The pages below ``docs/papers/``, in order of years."""


def write_papers() -> dict[str, str]:
    """Return the pages by their path below ``docs/``."""
    pages = {f"papers/{name}.md": write_page(name, paper) for name, paper in PAPERS.items()}
    return {"papers/index.md": write_index(), **pages}


def write_index() -> str:
    """Return the page that lists the papers, with how many claims hold here."""
    rows = [
        (f"[{paper.short}]({name}.md)", paper.title, *_count_verdicts(paper.results))
        for name, paper in PAPERS.items()
    ]
    head = ("paper", "title", "claims that hold here", "that do not hold", "undecided")
    return "\n".join(
        (
            "# Papers",
            "",
            "Each page shows the claims and published figures of one paper next to the measurements of "
            "shiftproof. The pages are generated from the files in `results/` and from the published "
            "tables in the package. [Repeat the experiments](../reproduce.md) says how long each "
            "experiment takes:",
            "",
            "```bash",
            "shiftproof reproduce bn-adaptation --out bn",
            "```",
            "",
            write_table(head, rows),
        )
    )


def write_page(name: str, paper: Paper) -> str:
    """Return the page of a paper."""
    parts = [
        f"# {paper.short}",
        f"*{paper.title}*, {paper.where}.",
        paper.says,
        f"```bash\n{paper.how}\n```",
        *_write_findings(paper),
        *_write_measured(paper),
        *_PRINTED[name](),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _count_verdicts(results: Iterable[str]) -> tuple[str, ...]:
    holds = [finding["holds"] for name in results for finding in _read_findings(name)]
    if not holds:
        return ("", "", "")
    return tuple(str(holds.count(verdict)) for verdict in ("yes", "no", "undecided"))


def _read_findings(name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((RESULTS / name / "findings.json").read_text("utf-8"))
    return found


def _write_findings(paper: Paper) -> list[str]:
    """Return the claims with what was printed beside what was measured."""
    parts = ["## Claimed, printed, measured"] if paper.results else []
    parts += [paper.note] if paper.note else []
    for name in paper.results:
        title = read_result(RESULTS / name / "result.json").title
        rows = [
            (one["claim"], _tell_source(one["source"], paper.short), one["measured"],
             VERDICTS[one["holds"]])
            for one in _read_findings(name)
        ]  # fmt: skip
        parts += [
            f"### {title}",
            write_table(("claim", "printed", "measured here", "holds"), rows),
            f"All tables, intervals and settings: [results/{name}](../../results/{name}/README.md).",
        ]
    if paper.results:
        parts.append(
            "“Yes” means that the whole 95 % interval agrees with the claim, “no” that the whole interval "
            "contradicts it, “undecided” that the interval allows both."
        )
    return parts


def _tell_source(source: str, short: str) -> str:
    """Return what was printed, without the name of the page's own paper."""
    if source == OWN:
        return "a claim of shiftproof"
    rest = source.removeprefix(short).lstrip(",:; ")
    return rest or "without a figure"


def _write_measured(paper: Paper) -> list[str]:
    parts = []
    for name in paper.measured:
        table = read_result(RESULTS / paper.results[0] / "result.json").table(name)
        parts += [f"## Measured here: {table.title[0].lower()}{table.title[1:]}"]
        parts += [write_markdown(table), *([table.note] if table.note else [])]
    return parts


# ---------------------------------------------------------------- what was printed


def _print_errors(recipe: str) -> list[str]:
    models = read_errors(recipe)
    methods = list(dict.fromkeys(method for row in models.values() for method in row))
    rows = [
        (model, *(f"{row[method]:.1f}" if method in row else "" for method in methods))
        for model, row in models.items()
    ]
    table = write_table(("mCE in %", *methods), rows, numbers=True)
    return ["## Printed", table]


def _print_detectors() -> list[str]:
    parts = ["## Printed"]
    for benchmark in ("Pascal-C", "COCO-C", "Cityscapes-C"):
        rows = [
            (detector, *(f"{row[name]:.1f}" for name in ("P", "mPC", "rPC")))
            for detector, row in read_detectors(benchmark).items()
        ]
        parts.append(write_table((f"{benchmark}, in %", "P", "mPC", "rPC"), rows, numbers=True))
    return [*parts, "## A pretrained detector, measured here", _write_detector()]


def _write_detector() -> str:
    scores = json.loads((RESULTS / "fastestdet-voc100" / "scores.json").read_text("utf-8"))
    summary = scores["models"][0]["summary"]
    rows = [
        (title, "{:.1f} ({:.1f}–{:.1f})".format(*(100 * summary[key][end] for end in _ENDS)))
        for key, title in (("clean", "P, clean"), ("mean", "mPC"), ("rpc", "rPC"))
    ]
    head = ("FastestDet on 100 photographs of Pascal VOC, AP50 in %", "95 % interval")
    where = "[results/fastestdet-voc100](../../results/fastestdet-voc100/README.md)"
    return f"{write_table(head, rows, numbers=True)}\nAll 75 cells: {where}."


_ENDS = ("value", "low", "high")


def _print_similarity() -> list[str]:
    def show(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    rows = [
        (
            row.title,
            f"{row.removed:,}",
            *map(show, (row.all, row.pruned, row.combined, row.reference)),
        )
        for row in read_test_sets().values()
    ]
    head = ("test set", "rows removed of 200M", "accuracy in %, all rows", "pruned for this set",
            "pruned for all six", "ImageNet alone, about")  # fmt: skip
    return ["## Printed", write_table(head, rows, numbers=True)]


def _print_alexnet() -> list[str]:
    rows = [(corruption_title(name), f"{100 * error:.2f}") for name, error in ALEXNET_ERROR.items()]
    return [
        "## Printed: AlexNet's error, by which CE is divided",
        write_table(("corruption", "mean error over five severities in %"), rows, numbers=True),
        f"On clean images AlexNet has an error of {100 * ALEXNET_CLEAN_ERROR:.2f} %. `shiftproof.metrics` "
        "stores these errors by the name of the corruption, because lists without names are published "
        "in two different orders.",
        "## What is the same here, and what is not",
        "The tests compare every corruption at five severities with arrays of the published code "
        "(`tests/reference`). With the same random numbers, at most one value in a thousand differs, by "
        "one level. [Corruptions](../corruptions.md#how-faithful) lists the errors of the published code "
        "that are kept, the variants that correct them, and the known differences. No result on the "
        "whole of ImageNet-C is included here.",
    ]


_PRINTED = {
    "hendrycks-2019": _print_alexnet,
    "michaelis-2019": _print_detectors,
    "schneider-2020": lambda: _print_errors("bn-adaptation"),
    "rusak-2022": lambda: _print_errors("self-learning"),
    "mayilvahanan-2024": _print_similarity,
    "rusak-2025": list,
}
