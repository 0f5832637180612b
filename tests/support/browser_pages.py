"""Open pages in one running browser: at any width, light, dark or printed, and checked by axe."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.browser_visits import CHROMIUM, NAMES

AXE_PACKAGES = ("axe_playwright_python", "axe_core_python")
"""Packages that carry axe-core's file."""


def find_axe() -> str:
    """Return the source of axe-core; skips the test if it is not installed."""
    for name in AXE_PACKAGES:
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or []) if spec else []:
            file = Path(place) / "axe.min.js"
            if file.is_file():
                return file.read_text(encoding="utf-8")
    pytest.skip(f"axe-core is not installed; looked for it in {', '.join(AXE_PACKAGES)}")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open the machine's browser; skips the test without a browser or its driver."""
    if CHROMIUM is None:
        pytest.skip(f"no browser found on the path; looked for {', '.join(NAMES)}")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """An open page with its console messages and requests."""

    page: Any
    messages: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)


@contextmanager
def open_page(
    browser: Any, file: Path, *, width: int = 1280, scheme: str = "light", media: str = "screen"
) -> Iterator[Opened]:
    """Open a page from disk with its own security policy in force."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
    )
    opened = Opened(context.new_page())
    opened.page.emulate_media(media=media, color_scheme=scheme)
    opened.page.on("console", lambda message: opened.messages.append(message.text))
    opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
    opened.page.on("request", lambda request: opened.urls.append(request.url))
    opened.page.goto(file.resolve().as_uri())
    yield opened
    context.close()


def ask_axe(page: Any, axe: str) -> list[str]:
    """Return the rules that axe finds violated, each with the first place."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]


def save(page: Any, block: str, form: str) -> bytes:
    """Press ``Save`` at a table or chart, then a form, and return the file."""
    tools = page.locator(block)
    tools.locator("button.save").click()
    with page.expect_download() as caught:
        tools.locator(".forms button", has_text=form).click()
    content: bytes = Path(caught.value.path()).read_bytes()
    return content
