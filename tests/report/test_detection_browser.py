"""The page of detectors in a real browser: silent, no wider than a phone, boxes where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftproof.report import write_report
from support.browser_visits import CHROMIUM, NAMES, on_a_phone, visit
from support.detection_report_runs import write_detector_run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser found on the path; looked for {', '.join(NAMES)}"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    return write_report(write_detector_run(folder / "run", missing={"plain": ["sheep"]}))


def test_the_page_opens_without_a_word_and_without_a_request(page: Path, tmp_path: Path) -> None:
    seen = visit(page, tmp_path / "visit")
    assert seen.console == []
    assert seen.requests == []


MEASURE = """
addEventListener("load", function () {
  var found = {}, root = document.documentElement;
  document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  function shown(selector) {
    return Array.prototype.filter.call(document.querySelectorAll(selector), function (e) {
      return e.getClientRects().length > 0;
    });
  }
  found.width = root.clientWidth;
  found.needed = root.scrollWidth;
  found.thumbs = shown("#gallery .thumb").length;
  found.first = shown("#gallery .shot .w0").length;
  found.second = shown("#gallery .shot .w1").length;
  document.querySelector("input[value=m1]").click();
  found.chosen = [shown("#gallery .shot .w0").length, shown("#gallery .shot .w1").length];
  document.querySelector("input[value=all]").click();
  found.all = shown("#gallery .shot .w1").length;
  document.querySelector("input[value='5']").click();
  document.querySelector("input[value=m0]").click();
  var shot = shown("#gallery .shot")[0];
  var picture = shot.querySelector("img").getBoundingClientRect();
  var box = shot.querySelector(".w0 .kept .box").getBoundingClientRect();
  found.place = [
    (box.left - picture.left) / picture.width, (box.top - picture.top) / picture.height,
    box.width / picture.width, box.height / picture.height
  ];
  found.ratio = picture.width / picture.height;
  found.names = shown("#gallery .shot .w0 .label text").every(function (text) {
    var ground = text.previousSibling.getBoundingClientRect(), own = text.getBoundingClientRect();
    return own.left >= ground.left - 1 && own.right <= ground.right + 1;
  });
  document.querySelector("input[value=boxes]").click();
  found.bare = shown("#gallery .shot .boxes").length;
  parent.document.title = JSON.stringify(found);
});
"""


def test_boxes_lie_on_the_picture_and_the_switches_work(page: Path, tmp_path: Path) -> None:
    found = on_a_phone(page, MEASURE, tmp_path)
    assert found["width"] <= 360
    assert found["needed"] <= found["width"]
    # The clean picture and the fifteen of the severity that is chosen at first.
    assert found["thumbs"] == 16
    assert (found["first"], found["second"]) == (16, 0)
    assert found["chosen"] == [0, 16]
    assert found["all"] == 76
    # 11, 11, 30, 40 in an image of 120 x 80.
    assert found["ratio"] == pytest.approx(1.5, abs=0.02)
    assert found["place"] == pytest.approx([11 / 120, 11 / 80, 30 / 120, 40 / 80], abs=0.02)
    assert found["names"] is True
    assert found["bare"] == 0
