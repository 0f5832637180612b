"""Open a page in a real browser, and read its console messages and requests."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


@dataclass(frozen=True)
class Visit:
    console: list[str]
    requests: list[str]
    dom: str


def visit(page: Path, work: Path, *, width: int = 1280) -> Visit:
    """Open a page from disk, and return its messages, its requests and the final document."""
    work.mkdir()
    log = work / "net.json"
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={work / 'profile'}",
            f"--window-size={width},900",
            "--enable-logging=stderr",
            "--v=0",
            f"--log-net-log={log}",
            "--dump-dom",
            page.resolve().as_uri(),
        ],
        capture_output=True,
        timeout=90,
        check=True,
    )
    messages = done.stderr.decode("utf-8", "replace").splitlines()
    return Visit(
        console=[line for line in messages if "CONSOLE" in line],
        requests=_requests(log),
        dom=done.stdout.decode("utf-8"),
    )


def _requests(log: Path) -> list[str]:
    """Return the requests of the page; those of the browser itself have no origin."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    starts = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return [
        start["url"]
        for start in starts
        if start["initiator"] != "not an origin" and not start["url"].startswith(("file:", "data:"))
    ]


def on_a_phone(page: Path, script: str, work: Path) -> dict[str, Any]:
    """Run a script in a page 360 pixels wide, and return the title that it sets."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    inner = text.replace("</body>", f"<script>{script}</script></body>")
    # Windows have a minimum width, frames do not.
    outer = work / "phone.html"
    outer.write_text(
        '<!doctype html><title></title><iframe style="border:0;width:360px;height:800px" '
        f'srcdoc="{html.escape(inner)}"></iframe>',
        encoding="utf-8",
    )
    dom = visit(outer, work / "visit").dom
    title = re.search("<title>(.*?)</title>", dom, re.S)
    assert title is not None
    found: dict[str, Any] = json.loads(html.unescape(title.group(1)))
    return found
