"""The page of an audit: its numbers, its words, its pictures, its safety."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.report import table_csv, table_latex, write_report
from shiftproof.report.similarity.figures import Range, coarsen, find_occupied
from support.page_reading import Node, parse
from support.report_runs import write_run
from support.similarity_report_runs import (
    leak,
    of_set,
    scores,
    without_reference,
    write_audit,
    write_picture,
)


def page_of(run: Path, *images: Path) -> Node:
    return parse(write_report(run, images=images).read_text(encoding="utf-8"))


def shown(tmp_path: Path, *sets: dict[str, Any]) -> Node:
    return page_of(write_audit(tmp_path / "run", scores(*sets)), tmp_path / "images")


def cells(table: Node) -> list[list[str]]:
    return [
        [cell.text for cell in row.children if isinstance(cell, Node)] for row in table.all("tr")
    ]


# ---------------------------------------------------------------- numbers


def test_cards_hold_the_shares_of_every_set(tmp_path: Path) -> None:
    page = shown(tmp_path)
    found = {
        card.one("h3").text: [figure.text for figure in card.all(style="figure")]
        for card in page.all(style="card")
    }
    assert found == {
        "Near-duplicates": ["sketch 2.0 % 1.0–3.0", "art 0.0 % 0.0–0.0"],
        "Closer than the reference": ["sketch 80.0 % 76.0–84.0", "art 80.0 % 76.0–84.0"],
    }


def test_gaps_stand_with_their_intervals_and_signs(tmp_path: Path) -> None:
    page = shown(tmp_path)
    figures = [each.one(style="big").text for each in page.all(style="change")]
    assert figures == ["+0.100 +0.090 to +0.110", "−0.050 −0.060 to −0.040"]
    styles = [each.attributes["class"] for each in page.all(style="change")]
    assert styles == ["change worse", "change better"]


def test_the_matrix_says_what_pruning_for_one_leaves_out_of_another(tmp_path: Path) -> None:
    content = scores()
    content["pruning"]["shared"] = [[1.0, 0.25], [0.6, None]]
    page = page_of(write_audit(tmp_path / "run", content))
    table = page.by_id("pruning").one("table")
    assert cells(table)[1:] == [
        ["sketch", "310", "15.5 %", "100.0", "25.0"],
        ["art", "310", "15.5 %", "60.0", "–"],
        ["all of them", "456", "22.8 %", "", ""],
    ]
    heat = [cell.attributes["class"] for cell in table.all("td", "h")]
    assert heat == ["h s20", "h s5", "h s12", "h none"]


def test_classes_come_by_their_gap(tmp_path: Path) -> None:
    page = shown(tmp_path, of_set("sketch"))
    rows = cells(page.by_id("classes").one("table"))
    assert rows[1:] == [
        ["boot", "40", "0.800", "0.600", "+0.200", "75.0", "5.0"],
        ["bag", "40", "0.650", "0.600", "+0.050", "75.0", "5.0"],
    ]


def test_certificates_say_what_was_searched_and_how(tmp_path: Path) -> None:
    rows = cells(shown(tmp_path, of_set("sketch")).by_id("certificate").one("table"))
    assert [row[:3] for row in rows[1:]] == [
        ["the nearest training rows of each test row", "int8", "0.012"],
        ["the nearest test row of each training row", "fp32", "0"],
        ["the nearest reference row of each test row", "int8", "0.012"],
        ["the training rows that come closer than the reference", "int8", "0.012"],
    ]
    assert rows[4][6] == "12"


def test_a_certificate_of_a_gpu_says_so(tmp_path: Path) -> None:
    content = scores(of_set("sketch"))
    content["sets"][0]["certificates"]["train"].update(precision="fp16", device="cuda")
    page = page_of(write_audit(tmp_path / "run", content))
    rows = cells(page.by_id("certificate").one("table"))
    assert [row[1] for row in rows[1:3]] == ["fp16 on cuda", "fp32"]


def test_curves_rise_to_one_and_are_where_the_rows_are(tmp_path: Path) -> None:
    curves = shown(tmp_path, of_set("sketch")).by_id("curves")
    labels = [svg.attributes["aria-label"] for svg in curves.all("svg", "curves")]
    # The middle half of the training set's bump lies in the bin from 0.70 to 0.71.
    assert labels == [
        "sketch: histogram of similarities",
        "sketch. training set: half at or below 0.71; reference: half at or below 0.61",
    ]
    _, cumulative = curves.all("svg", "curves")
    lines = [line.attributes["points"].split() for line in cumulative.all("polyline")]
    # From the foot of the drawing to its top: y runs from 148 to 10.
    assert [(line[0].split(",")[1], line[-1].split(",")[1]) for line in lines] == [
        ("148.0", "10.0"),
        ("148.0", "10.0"),
    ]


def test_bins_are_put_together_and_the_empty_ones_left_out() -> None:
    edges = [place / 20 for place in range(-20, 21)]
    counts = [0] * 30 + [3, 0, 5] + [0] * 7
    assert find_occupied([counts], edges) == Range(29, 34)
    assert coarsen(counts, Range(29, 34), 3) == ([3, 5, 0], 2)
    assert coarsen(counts, Range(29, 34), 50) == ([0, 3, 0, 5, 0], 1)


def test_tables_are_those_of_the_scores() -> None:
    content = scores()
    lines = list(csv.reader(io.StringIO(table_csv(content))))
    assert lines[0][:4] == ["row", "group", "measure", "sketch"]
    rows = {line[0]: line[3:] for line in lines[1:]}
    assert rows["gap"][:1] == ["0.1"]
    assert rows["gap"][3:4] == ["-0.05"]
    assert rows["pruned"] == ["0.155", "", "", "0.155", "", ""]
    latex = table_latex(content)
    assert r"Gap & 10.0 {\footnotesize (9.0--11.0)}" in latex
    assert r"\begin{table}" in latex


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("gap", "half", "words", "never"),
    [
        (0.1, 0.01, "A better score may or may not be due to this.", "is unclear"),
        (0.1, 0.01, "Only training without the 310 rows that are closer (15.5 % of 2,000)", "proves"),
        (0.005, 0.01, "is unclear from 400 test rows", "be due to this"),
        (-0.1, 0.01, "similar images do not explain a score that is better", "be due to"),
    ],
)  # fmt: skip
def test_the_verdict_claims_no_more_than_the_interval(
    tmp_path: Path, gap: float, half: float, words: str, never: str
) -> None:
    page = shown(tmp_path, of_set("sketch", gap=gap, half=half))
    said = page.one(style="verdict").text
    assert words in said
    assert never not in said


def test_the_lead_sorts_the_sets(tmp_path: Path) -> None:
    page = shown(
        tmp_path, of_set("sketch"), of_set("art", gap=-0.05), of_set("noise", gap=0.0), of_set("r")
    )
    first, second = [each.text for each in page.all("p", "lead")]
    assert first == (
        "The training set is closer to sketch and r than the reference. It is less close to art. "
        "For noise the difference is not significant."
    )
    assert "If the 456 rows that are too close to any test set (22.8 %" in second
    assert "This page cannot answer that" in second


def test_a_page_with_nothing_to_prune_does_not_advise_to_prune(tmp_path: Path) -> None:
    content = scores(of_set("sketch"))
    content["pruning"].update(combined=0, share=0.0)
    content["sets"][0]["pruned"].update(rows=0, share=0.0)
    page = page_of(write_audit(tmp_path / "run", content))
    second = page.all("p", "lead")[1].text
    assert "there is nothing to remove" in second
    for never in ("If the 0 rows", "Train on the remaining rows"):
        assert never not in second
    assert "Only training without" not in page.one(style="verdict").text


def test_one_row_alone_is_told_in_the_singular(tmp_path: Path) -> None:
    content = scores(of_set("sketch"))
    content["pruning"].update(combined=1, share=0.0005)
    content["train"]["skipped"] = 1
    page = page_of(write_audit(tmp_path / "run", content))
    assert "If the 1 row that is too close" in page.all("p", "lead")[1].text
    warned = " ".join(each.text for each in page.all("p", "warning"))
    assert "1 row of the training set could not be used and is in no figure" in warned


def test_near_duplicates_are_warned_of(tmp_path: Path) -> None:
    page = shown(
        tmp_path, of_set("sketch"), of_set("art", duplicates=0.001), of_set("fog", rows=40)
    )
    warned = " ".join(each.text for each in page.all("p", "warning"))
    assert "sketch and fog have near-duplicates" in warned
    assert "Fewer than 100 rows in fog" in warned
    said = [each.text for each in page.all(style="change-words")]
    assert "Score this test set again without them." in said[0]
    assert "near-duplicates" in said[1]
    assert "Score this" not in said[1]


def test_without_a_reference_nothing_is_compared(tmp_path: Path) -> None:
    page = page_of(write_audit(tmp_path / "run", without_reference(scores())))
    assert "not whether this is closer than usual" in page.one("p", "lead").text
    assert "without a reference training set" in page.all(style="verdict")[0].text
    assert [card.one("h3").text for card in page.all(style="card")] == ["Near-duplicates"]
    assert not [node for node in page.walk() if node.attributes.get("id") == "pruning"]
    for svg in page.by_id("curves").all("svg", "curves"):
        assert len(svg.all("polyline")) == 1
    assert "Gap" not in page.by_id("classes").text


# ---------------------------------------------------------------- pictures


def test_the_closest_pairs_are_shown_where_the_images_can_be_read(tmp_path: Path) -> None:
    there = write_picture(tmp_path / "images" / "1.png")
    gone = tmp_path / "images" / "2.png"
    leaks = [leak(17, 0.991, there), leak(18, 0.98, gone), leak(19, 0.97)]
    section = shown(tmp_path, {**of_set("sketch"), "leakage": leaks}).by_id("leakage")
    first, second, third = section.all(style="case")
    sources = [image.attributes["src"] for image in first.all("img")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert [each.text for each in first.all("figcaption")] == [
        "testtest/17.png",
        "train 0.991train/203.png",
        "train 0.891img_emb_0.npy, row 7",
    ]
    assert not second.all("img")
    assert len(second.all(style="gone")) == 2
    assert not third.all(style="gone")
    assert "1 picture could not be read and is left blank" in section.text


def test_a_file_that_is_no_image_gives_no_picture(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret that no page may hold")
    run = write_audit(
        tmp_path / "run", scores({**of_set("sketch"), "leakage": [leak(17, 0.99, secret)]})
    )
    text = write_report(run, images=[tmp_path]).read_text(encoding="utf-8")
    assert "a secret" not in text
    assert "<img" not in text
    shown = " ".join(parse(text).by_id("leakage").text.split())
    assert "1 picture could not be read and is left blank" in shown


def test_only_pictures_of_folders_that_the_reader_names_are_opened(tmp_path: Path) -> None:
    """A stranger's audit may name any file of the reader; the picture is there, and stays unseen."""
    private = write_picture(tmp_path / "private" / "me.png", 77)
    write_picture(tmp_path / "images" / "in.png")
    write_picture(tmp_path / "run" / "own.png")
    (tmp_path / "images" / "link.png").symlink_to(private)
    (tmp_path / "images" / "loop.png").symlink_to("loop.png")
    hostile = [
        str(private),
        f"{tmp_path}/images/../private/me.png",
        "../private/me.png",
        f"{tmp_path}/images/link.png",
        f"{tmp_path}/images/loop.png",
        f"{tmp_path}/images-of-others/me.png",
        "/etc/hostname",
        "/" + "a" * 300,
    ]
    write_picture(tmp_path / "images-of-others" / "me.png")
    for path in hostile:
        leaks = [leak(17, 0.991, Path(path))]
        run = write_audit(tmp_path / "run", scores({**of_set("sketch"), "leakage": leaks}))
        section = page_of(run, tmp_path / "images").by_id("leakage")
        assert not section.all("img"), path
        assert len(section.all(style="gone")) == 2
    assert "2 pictures are in folders that were not named" in section.text
    assert "shiftproof report RUN --images FOLDER" in section.text
    friendly = [f"{tmp_path}/images/in.png", f"{tmp_path}/run/own.png", "own.png"]
    for path in friendly:
        leaks = [leak(17, 0.991, Path(path))]
        run = write_audit(tmp_path / "run", scores({**of_set("sketch"), "leakage": leaks}))
        section = page_of(run, tmp_path / "images").by_id("leakage")
        assert len(section.all("img")) == 2, path
        assert "not named" not in section.text
    # Without a word of the reader nothing but the run's own folder is looked into.
    (run / "scores.json").write_text(
        json.dumps(scores({**of_set("sketch"), "leakage": [leak(1, 0.9, Path(friendly[0]))]}))
    )
    assert not page_of(run).by_id("leakage").all("img")


def test_pictures_are_found_where_the_folder_of_their_set_lies_now(tmp_path: Path) -> None:
    """The scores name them below that folder; two sets may have images of one name."""
    write_picture(tmp_path / "moved" / "a" / "1.png", 10)
    write_picture(tmp_path / "moved" / "b" / "1.png", 240)
    leaks = [leak(17, 0.991, Path("1.png"))]
    run = write_audit(tmp_path / "run", scores({**of_set("sketch"), "leakage": leaks}))

    def sources(*images: str) -> list[str]:
        section = page_of(run, *map(Path, images)).by_id("leakage")
        return [image.attributes["src"] for image in section.all("img")]

    a, b = tmp_path / "moved" / "a", tmp_path / "moved" / "b"
    assert len(sources(str(a))) == 2
    assert sources(str(a), str(b)) == []  # which of the two is not known
    test, train = sources(f"sketch={a}", f"train={b}")
    assert test != train
    assert sources(f"sketch={b}", f"train={a}") == [train, test]


def test_folders_of_images_are_an_audits(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "plain", sheets=0)
    with pytest.raises(InputError, match="has its pictures in its own folder"):
        write_report(plain, images=[tmp_path])


def test_only_so_many_pairs_are_pictured(tmp_path: Path) -> None:
    leaks = [leak(row, 0.99 - row / 1000) for row in range(14)]
    section = shown(tmp_path, {**of_set("sketch"), "leakage": leaks}).by_id("leakage")
    assert len(section.all(style="case")) == 12
    assert cells(section.one("table"))[1:] == [
        ["test/12.png", "boot", "train/203.png", "0.978"],
        ["test/13.png", "boot", "train/203.png", "0.977"],
    ]
    assert "The folders of the images were not given" in section.text


# ---------------------------------------------------------------- safety


def test_names_are_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    text = write_report(
        write_audit(tmp_path / "run", scores({**of_set(nasty), "leakage": [leak(1, 0.9)]}))
    ).read_text(encoding="utf-8")
    assert nasty not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("sets", 0, "near_duplicates", "value"),
            2,
            "a number from 0 to 1 at sets[0].near_duplicates.value",
        ),
        (("sets", 1, "gap", "value"), "large", "a number at sets[1].gap.value, got 'large'"),
        (("sets", 0, "gap", "low"), 0.9, "its low end below its high end at sets[0].gap"),
        (
            ("sets", 0, "histogram", "train"),
            [1, 2],
            "200 numbers, one per bin at sets[0].histogram.train",
        ),
        (
            ("sets", 0, "train_histogram", 7),
            -1,
            "a whole number >= 0 at sets[0].train_histogram[7]",
        ),
        (
            ("sets", 0, "cumulative", "train", 0),
            1.5,
            "a number <= 1 at sets[0].cumulative.train[0]",
        ),
        (("sets", 0, "gap"), "large", "an object or nothing at sets[0].gap"),
        (("sets", 0, "similarity"), None, "an object at sets[0].similarity, got nothing"),
        (
            ("sets", 0, "certificates", "train", "bound"),
            None,
            "a number at sets[0].certificates.train.bound",
        ),
        (
            ("pruning", "shared"),
            [[1.0]],
            "a row and a column for each of 2 test sets at pruning.shared",
        ),
        (("edges",), [1.0, 0.0], "two or more rising numbers at edges"),
        (("kind",), "other", "kind"),
        (("format",), 1, "expected format 2, got 1"),
    ],
)
def test_damaged_scores_are_named(
    tmp_path: Path, place: tuple[str | int, ...], value: object, message: str
) -> None:
    content: Any = scores()
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    run = write_audit(tmp_path / "run", content)
    with pytest.raises(BrokenFileError, match=re.escape(message)):
        write_report(run)


def test_each_audit_is_a_part_of_its_own(tmp_path: Path) -> None:
    one, other = write_audit(tmp_path / "one"), write_audit(tmp_path / "other")
    plain = write_run(tmp_path / "plain", sheets=0)
    page = page_of([one, other, plain])
    assert [part.all("p", "kicker")[0].text for part in page.all("article")] == [
        "Train-test similarity", "Train-test similarity", "Robustness report",
    ]  # fmt: skip
    with pytest.raises(InputError, match="only errors of classifiers"):
        write_report(one, calibration=plain)


def test_the_same_scores_give_the_same_page(tmp_path: Path) -> None:
    run = write_audit(tmp_path / "run")
    first = write_report(run).read_bytes()
    assert write_report(run, tmp_path / "again.html").read_bytes() == first
    head = json.loads((run / "run.json").read_text())
    assert head["provenance"]["started"][:10] in first.decode("utf-8")


def test_the_next_steps_follow_from_the_audit(tmp_path: Path) -> None:
    page = parse(write_report(write_audit(tmp_path / "run")).read_text(encoding="utf-8"))
    assert "shiftproof prune" in page.by_id("next").text
    assert "--reference" not in page.by_id("next").text
    bare = write_audit(tmp_path / "bare", without_reference(scores()))
    page = parse(write_report(bare).read_text(encoding="utf-8"))
    assert "shiftproof audit --reference" in page.by_id("next").text
