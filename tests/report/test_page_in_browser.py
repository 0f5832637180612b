"""A mixed page in a real browser: widths, light and dark, print, axe, and what its buttons do."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from shiftproof.report import write_report
from support.browser_pages import Opened, ask_axe, find_axe, open_browser, open_page, save
from support.detection_report_runs import write_detector_run
from support.mixed_runs import write_all


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    return write_report(write_all(folder), folder / "all.html")


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all 15 corruptions."""
    folder = tmp_path_factory.mktemp("detectors")
    return write_report(write_detector_run(folder / "run", sheets=0, worst=0))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


VIEWS = {
    "phone": {"width": 390},
    "phone, dark": {"width": 390, "scheme": "dark"},
    "laptop": {"width": 1280},
    "laptop, dark": {"width": 1280, "scheme": "dark"},
    "print": {"width": 720, "media": "print"},
    "print, dark": {"width": 720, "media": "print", "scheme": "dark"},
}


JUDGED = ("phone", "laptop, dark", "print")
"""Views that axe judges: each width once, and both sets of colors."""


@pytest.fixture(scope="module")
def views(browser: Any, page: Path) -> Iterator[Callable[[str], Opened]]:
    """A function that gives the page in a view, for tests that change nothing in it."""
    with ExitStack() as stack:

        @functools.cache
        def see(view: str) -> Opened:
            return stack.enter_context(open_page(browser, page, **VIEWS[view]))

        yield see


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_silent_and_fits(views: Callable[[str], Opened], view: str) -> None:
    opened = views(view)
    root = "document.documentElement"
    assert opened.page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    assert [url for url in opened.urls if not url.startswith(("file:", "data:"))] == []
    assert opened.messages == []


@pytest.mark.parametrize("view", JUDGED)
def test_axe_finds_nothing(views: Callable[[str], Opened], view: str) -> None:
    assert ask_axe(views(view).page, find_axe()) == []


def test_axe_notices_what_is_planted(browser: Any, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    text = '<!doctype html><html lang="en"><title>x</title><main><img src="data:,"></main></html>'
    planted.write_text(text, encoding="utf-8")
    with open_page(browser, planted) as opened:
        assert any(one.startswith("image-alt") for one in ask_axe(opened.page, find_axe()))


def test_bold_changes_are_significant_also_in_totals(views: Callable[[str], Opened]) -> None:
    weights = views("laptop").page.evaluate(
        """[...document.querySelectorAll(".listed tr.total td")].map(
            cell => [cell.classList.contains("sure"), Number(getComputedStyle(cell).fontWeight)])"""
    )
    assert weights
    assert all((weight > 400) == sure for sure, weight in weights)


def test_print_is_light_and_has_no_buttons(views: Callable[[str], Opened]) -> None:
    opened = views("print, dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(ground) == "rgb(255, 255, 255)"
    assert opened.page.locator(".tools:visible").count() == 0


def column(page: Any, table: str, place: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({place})").all()
    return [cell.inner_text().strip() for cell in cells]


def test_a_click_on_a_heading_sorts_by_number_and_by_name(browser: Any, detectors: Path) -> None:
    table = "#separation table"
    with open_page(browser, detectors) as opened:
        head = opened.page.locator(f"{table} th button.sort", has_text="Range")
        head.click()
        falling = [float(text) for text in column(opened.page, table, 4)]
        assert falling == sorted(falling, reverse=True)
        assert head.locator("..").get_attribute("aria-sort") == "descending"
        head.click()
        assert [float(text) for text in column(opened.page, table, 4)] == falling[::-1]
        names = opened.page.locator(f"{table} th button.sort", has_text="Corruption")
        names.click()
        names.click()
        found = column(opened.page, table, 1)
        assert found == sorted(found, key=str.lower)
        assert head.locator("..").get_attribute("aria-sort") is None


def test_a_filter_leaves_the_rows_that_have_the_word(browser: Any, detectors: Path) -> None:
    with open_page(browser, detectors) as opened:
        field = opened.page.locator("#separation input.filter")
        field.fill("BLUR")
        found = column(opened.page, "#separation table", 1)
        assert found
        assert all("blur" in name for name in found)
        field.fill("")
        assert len(column(opened.page, "#separation table", 1)) == 15


def test_a_table_is_saved_as_it_is_seen(browser: Any, page: Path) -> None:
    section = "#p1-ranking .tools >> nth=0"
    with open_page(browser, page) as opened:
        shown = [text.split() for text in column(opened.page, "#p1-ranking table.ranked", 3)]
        table = list(csv.reader(io.StringIO(save(opened.page, section, "CSV").decode())))
        assert table[0] == ["Rank", "Model", "Error under corruption", "interval", "Range of ranks"]
        assert [row[2:4] for row in table[1:]] == shown
        opened.page.locator(section).locator("button.save").click()
        markdown = save(opened.page, section, "Markdown").decode().splitlines()
        assert (
            markdown[0] == "| Rank | Model | Error under corruption | interval | Range of ranks |"
        )
        assert len(markdown) == 2 + len(shown)
        opened.page.locator(section).locator("button.save").click()
        latex = save(opened.page, section, "LaTeX").decode()
        assert latex.count(r" \\") == 1 + len(shown)
        assert r"\begin{tabular}{lrrrr}" in latex


def test_names_are_escaped_in_saved_tables(browser: Any, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("one: source", "=1+1,&quot;x|y_z")
    changed = tmp_path / "changed.html"
    changed.write_text(text, encoding="utf-8")
    section = "#p1-ranking .tools >> nth=0"
    with open_page(browser, changed) as opened:
        table = list(csv.reader(io.StringIO(save(opened.page, section, "CSV").decode())))
        assert "'=1+1,\"x|y_z" in [row[1] for row in table]
        opened.page.locator(section).locator("button.save").click()
        markdown = save(opened.page, section, "Markdown").decode()
        assert '=1+1,"x\\|y\\_z' in markdown


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chart_is_saved_as_a_drawing_that_stands_alone(
    browser: Any, page: Path, scheme: str
) -> None:
    section = "#p1-robustness .tools >> nth=0"
    with open_page(browser, page, scheme=scheme) as opened:
        drawing = save(opened.page, section, "SVG").decode()
        root = ElementTree.fromstring(drawing)
        words = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
        assert "under corruption, %" in words
        assert "var(" not in drawing
        assert "class=" not in drawing
        opened.page.locator(section).locator("button.save").click()
        image = Image.open(io.BytesIO(save(opened.page, section, "PNG"))).convert("RGB")
        width = float(root.attrib["width"])
        assert abs(image.width - 2 * width) <= 2
        assert (image.getpixel((3, 3))[0] > 200) == (scheme == "light")
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 20
        assert opened.messages == []


def test_a_heat_map_is_saved_with_its_grounds(browser: Any, page: Path) -> None:
    with open_page(browser, page) as opened:
        drawing = save(opened.page, "#p1-heat .map >> nth=0 >> .tools", "SVG").decode()
        cells = opened.page.locator("#p1-heat .map >> nth=0 >> td.h")
        colors = {
            cells.nth(at).evaluate("cell => getComputedStyle(cell).backgroundColor")
            for at in range(cells.count())
        }
        assert all(f'fill="{color}"' in drawing for color in colors)


def test_the_page_can_be_read_without_its_script(browser: Any, page: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(page.resolve().as_uri())
    assert bare.locator(".tools").count() == 0
    assert bare.locator("#p1-ranking table.ranked").is_visible()
    context.close()
