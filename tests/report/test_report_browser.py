"""The page in a real browser: no console message, no request, nothing wider than a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shiftproof.report import write_report
from support.browser_visits import CHROMIUM, NAMES, on_a_phone, visit
from support.report_runs import scores, with_guesses, write_run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser found on the path; looked for {', '.join(NAMES)}"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    broken = [{"id": "a.jpg", "cells": 76, "first_cell": "clean", "reason": "a.jpg: empty."}]
    run = write_run(
        folder / "run",
        with_guesses(
            scores(models=("source", "BN", "ENT"), broken=broken, title="</script><script>alert(1)")
        ),
        sheets=1,
        size=48,
    )
    return write_report(run)


def test_the_page_opens_without_a_word_and_without_a_request(page: Path, tmp_path: Path) -> None:
    seen = visit(page, tmp_path / "visit")
    assert seen.console == []
    assert seen.requests == []
    # The script ran to its end: what needs it is there.
    assert re.search(r'<button type="button" id="theme">(Dark|Light)</button>', seen.dom)
    assert len(re.findall(r'class="copy" data-copy="[\w-]+">Copy', seen.dom)) == 3


def test_the_check_itself_notices_errors_and_requests(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    address = "http://127.0.0.1:9/planted.png"
    planted = tmp_path / "planted.html"

    # An error in our own script: the policy is taken out, or it would stop the changed script.
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    broken = policy.sub("", text).replace('"use strict";', "nobody.there();", 1)
    broken = broken.replace("</main>", f'<img src="{address}" alt=""></main>')
    planted.write_text(broken, encoding="utf-8")
    seen = visit(planted, tmp_path / "error")
    assert any("nobody is not defined" in line for line in seen.console)
    assert seen.requests == [address]

    # With the policy the request is not made, and the attempt shows in the console.
    evil = f'<img src="{address}" alt="" onerror="nobody()"><script>nobody()</script></main>'
    planted.write_text(text.replace("</main>", evil), encoding="utf-8")
    seen = visit(planted, tmp_path / "policy")
    assert seen.requests == []
    assert len([line for line in seen.console if "Content Security Policy" in line]) >= 2


MEASURE = """
addEventListener("load", function () {
  var found = {}, root = document.documentElement;
  function shown(selector) {
    return Array.prototype.filter.call(document.querySelectorAll(selector), function (e) {
      return e.getClientRects().length > 0;
    }).length;
  }
  function colour() { return getComputedStyle(document.body).backgroundColor; }
  found.closed = shown(".thumb");
  document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  found.width = root.clientWidth;
  found.needed = root.scrollWidth;
  found.thumbs = shown(".thumb");
  document.querySelector("input[value=all]").click();
  found.all = shown(".thumb");
  document.querySelector("input[value='1']").click();
  found.mildest = shown(".thumb.v1") + " of " + shown(".thumb");
  var before = colour();
  document.getElementById("theme").click();
  found.theme = root.getAttribute("data-theme") + " " + (colour() !== before);
  document.getElementById("theme").click();
  found.back = colour() === before;
  document.querySelectorAll("details").forEach(function (d) { d.open = false; });
  dispatchEvent(new Event("beforeprint"));
  found.opened = document.querySelectorAll("details:not([open])").length;
  dispatchEvent(new Event("afterprint"));
  found.left = document.querySelectorAll("details[open]").length;
  Object.defineProperty(navigator, "clipboard", { value: undefined });
  document.querySelector("button.copy").click();
  found.selected = String(getSelection()).slice(0, 18);
  parent.document.title = JSON.stringify(found);
});
"""


def test_a_phone_needs_no_sideways_scrolling_and_the_switches_work(
    page: Path, tmp_path: Path
) -> None:
    found = on_a_phone(page, MEASURE, tmp_path)
    assert found["width"] <= 360
    assert found["needed"] <= found["width"]
    assert found["thumbs"] == 16
    assert found["all"] == 76
    assert found["mildest"] == "15 of 16"
    assert found["theme"] == "dark true"
    assert found["back"] is True
    assert found["opened"] == 0
    assert found["left"] == 0
    assert found["selected"].startswith("row,group,measure")
