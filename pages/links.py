"""Hooks of mkdocs: links to files outside ``docs/`` lead to the repository, and nothing to a network."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_FOREIGN = "https://unpkg.com/iframe-worker/shim"
"""What the theme asks for where the search is to work without a server."""

_OWN = "search-from-disk.js"

_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Give the links that leave ``docs/`` the address of the repository, as mkdocs asks of a hook."""
    return lead_outside(markdown, page.file.src_uri, config["extra"]["repository"])


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Take the script that the theme would fetch from our own folder, as mkdocs asks of a hook."""
    return take_own_script(output, page.url)


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same for pages without a source, such as that of an error."""
    return take_own_script(output_content, "")


def take_own_script(output: str, url: str) -> str:
    """Return a built page whose search needs no script from elsewhere.

    Args:
        output: the page as HTML.
        url: its address below the site.
    """
    return output.replace(_FOREIGN, "../" * url.count("/") + _OWN)


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
