"""See whether a version may be released, then build and check it; nothing is uploaded or tagged.

    python scripts/release.py --check              # do all files say the same version?
    python scripts/release.py --tag v0.2.0         # and is it the tag's; then build, install, use

Refused is a tag, changelog, citation, recipe or classifier that says something else than the package,
a changelog without a date, or without a word on the version; and with ``--tag`` changes that are not
committed. docs/releasing.md has the steps.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
HEADING = re.compile(r"^## (\S+) \((\S+)\)$", re.MULTILINE)
CITED = re.compile(r"^version: (\S+)$", re.MULTILINE)
RECIPE = re.compile(r'^{% set version = "([^"]+)" %}$', re.MULTILINE)

UNRELEASED = "unreleased"


def find_mismatches(root: Path, tag: str | None = None) -> list[str]:
    """Return what speaks against a release of what lies in a folder, a sentence each.

    Args:
        root: of the repository.
        tag: that the release is to have; without it an undated changelog is no fault.
    """
    version = _find(VERSION, root / "src/shiftproof/_version.py")
    if version is None:
        return ["src/shiftproof/_version.py states no version."]
    found = []
    for file, pattern in (("CITATION.cff", CITED), ("recipe/meta.yaml", RECIPE)):
        said = _find(pattern, root / file)
        if said != version:
            found.append(f"{file} says version {said}, the package {version}.")
    found += _check_changelog(root / "CHANGELOG.md", version, released=tag is not None)
    if tag is not None and tag != f"v{version}":
        found.append(f"The tag is {tag}, and the package's version asks for v{version}.")
    return found


def _find(pattern: re.Pattern[str], path: Path) -> str | None:
    match = pattern.search(path.read_text(encoding="utf-8"))
    return match[1] if match else None


def _check_changelog(path: Path, version: str, *, released: bool) -> list[str]:
    text = path.read_text(encoding="utf-8")
    headings = list(HEADING.finditer(text))
    if not headings:
        return ["CHANGELOG.md has no heading such as: ## 1.2.3 (2030-01-31)."]
    newest = headings[0]
    end = headings[1].start() if len(headings) > 1 else len(text)
    found = []
    if newest[1] != version:
        found.append(f"CHANGELOG.md begins with {newest[1]}, the package is {version}.")
    if [one[1] for one in headings].count(newest[1]) > 1:
        found.append(f"CHANGELOG.md has {newest[1]} twice.")
    if not re.search(r"^- \S", text[newest.end() : end], re.MULTILINE):
        found.append(f"CHANGELOG.md says nothing of {newest[1]}.")
    if released and not _is_date(newest[2]):
        found.append(f"CHANGELOG.md says {newest[2]} where the day of the release belongs.")
    elif newest[2] != UNRELEASED and not _is_date(newest[2]):
        found.append(f"CHANGELOG.md: expected a day or {UNRELEASED}, got {newest[2]}.")
    return found


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_clean(root: Path) -> bool:
    """Whether all changes of a repository are committed."""
    words = ["git", "-C", str(root), "status", "--porcelain"]
    return not subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Return 1 where the version may not be released."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--check", action="store_true", help="compare the versions alone")
    group.add_argument("--tag", help="what the release is to be tagged as, such as v0.2.0")
    asked = parser.parse_args()
    found = find_mismatches(ROOT, asked.tag)
    if asked.tag and not is_clean(ROOT):
        found.append("There are changes that are not committed.")
    for sentence in found:
        print(sentence, file=sys.stderr)
    if found or asked.check:
        return 1 if found else 0
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/smoke_wheel.py"), "--extras"], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
