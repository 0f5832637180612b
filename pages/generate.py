"""Write the pages of the documentation that are made from files: python -m pages.generate [--pictures].

The tests hold the committed pages against what this would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pages.gallery import write_gallery, write_pictures
from pages.methods import write_methods
from pages.papers import write_papers
from pages.product import write_install, write_limits
from pages.tools import write_tools

DOCS = Path(__file__).parent.parent / "docs"


def write_pages() -> dict[str, str]:
    """Return the text of every page that is made, by its path below ``docs/``."""
    return {
        "which-method.md": write_methods(),
        "gallery.md": write_gallery(),
        "other-tools.md": write_tools(),
        "install.md": write_install(),
        "limits.md": write_limits(),
        **write_papers(),
    }


def main() -> None:
    """Write the pages, and the pictures where they are asked for."""
    for path, text in write_pages().items():
        (DOCS / path).write_text(text, encoding="utf-8")
    if "--pictures" in sys.argv[1:]:
        write_pictures()


if __name__ == "__main__":
    main()
