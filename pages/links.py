"""A hook of mkdocs: links from a page to files outside ``docs/`` lead to the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Give the links that leave ``docs/`` the address of the repository, as mkdocs asks of a hook."""
    return lead_outside(markdown, page.file.src_uri, config["extra"]["repository"])


def lead_outside(markdown: str, page: str, repository: str) -> str:
    """Return a page in which links to files outside ``docs/`` are addresses.

    Args:
        markdown: the page.
        page: its path below ``docs/``.
        repository: the address below which the repository's files stand.
    """

    def lead(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link[1]))
        return link[1] if path.startswith("docs/") else f"{repository}/{path}"

    return _LINK.sub(lead, markdown)
