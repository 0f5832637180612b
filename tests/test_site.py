"""The documentation site: its pages are all there, made from files, executed, and lead somewhere."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.main import get_command

from shiftproof import cli
from shiftproof.cli import config
from shiftproof.cli.verbs import VERBS, load_verb
from support.photos_by_class import write_photos_by_class
from test_surface import SURFACE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
RUN_HERE = (
    "index.md",
    "concepts.md",
    "calibration.md",
    "from-imagecorruptions.md",
    "extend.md",
    "models.md",
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def _import_pages():
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


def list_pages(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from list_pages(value) if isinstance(value, list) else [value]


def test_every_page_stands_once_in_the_navigation():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(list_pages(settings["nav"])) == PAGES, (
        "name each page of docs/ in mkdocs.yml, nav"
    )


def test_nothing_of_the_theme_comes_from_a_network():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not {"extra_javascript", "repo_url"} & set(settings)
    assert settings["strict"] is True


def test_every_public_package_has_a_page_of_the_reference():
    shown = set(re.findall(r"^::: (\S+)", "\n".join(map(read, PAGES)), re.MULTILINE))
    missing = set(SURFACE) - {"shiftproof.compute"} - shown  # that is its two modules
    assert not missing, f"write `::: PACKAGE` on a page of docs/reference/ for {sorted(missing)}"


def test_the_made_pages_are_made_from_the_files():
    from pages.generate import write_pages

    for path, text in write_pages().items():
        assert read(path) == text, f"{path}: run python -m pages.generate"


def test_the_gallery_has_a_picture_of_each_corruption_drawn_from_the_code():
    from pages import gallery

    from shiftproof.corruptions import CORRUPTIONS
    from shiftproof.corruptions.depth import FUNCTIONS

    names = [name for names in gallery.list_groups().values() for name in names]
    assert sorted(names) == sorted(set(CORRUPTIONS) - set(FUNCTIONS))
    pictures = {path.stem: path for path in (DOCS / "gallery").iterdir()}
    differing = sorted(set(pictures) ^ set(names))
    assert not differing, f"{differing}: run python -m pages.generate --pictures"
    drawn = gallery.draw_strip(gallery.draw_scene(), "contrast").astype(int)
    shown = np.asarray(Image.open(pictures["contrast"])).astype(int)
    assert shown.shape == (gallery.SIDE, 5 * gallery.SIDE, 3)
    assert np.abs(drawn - shown).mean() < 4
    assert sum(path.stat().st_size for path in pictures.values()) < 2_000_000


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", read(page))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith("https://"):
            assert ((DOCS / page).parent / target).exists(), target


def test_links_out_of_the_pages_become_addresses():
    from pages.links import lead_outside

    text = "[a](../results/x/README.md) [b](../concepts.md) [c](other.md)"
    assert lead_outside(text, "papers/index.md", "https://r") == text
    assert lead_outside(text, "reproduce.md", "https://r") == text.replace("../", "https://r/")
    deep = "[a](../../results/x.md)"
    assert lead_outside(deep, "papers/index.md", "https://r") == "[a](https://r/results/x.md)"


def test_the_search_takes_its_script_from_the_site_itself():
    from pages.links import on_post_page, on_post_template

    class Page:
        url = "papers/index.html"

    asked = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    own = '<script src="{}search-from-disk.js"></script>'
    assert on_post_page(asked, Page()) == own.format("../")
    assert on_post_template(asked) == own.format("")
    assert (DOCS / "search-from-disk.js").is_file()


def test_examples_in_docstrings_are_fenced():
    from pages.doctests import fence_examples

    assert fence_examples("Adds.\n\n>>> 1 + 1\n2\n\nArgs:") == (
        "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:"
    )
    assert fence_examples(">>> 1") == "```pycon\n>>> 1\n```"


@pytest.mark.parametrize("page", RUN_HERE)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_photos_by_class(Path("photos"))
    names = {"__name__": "page"}
    blocks = BLOCK.findall(read(page))
    for (language, code), (after, said) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language != "python":
            continue
        exec(compile(code, f"docs/{page}", "exec"), names)
        printed = capsys.readouterr().out
        assert printed == (said if after == "text" and printed else ""), code


def test_every_page_with_python_is_run_by_some_test():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    with_python = [page for page in PAGES if "```python\n" in read(page)]
    unread = [page for page in with_python if f'"{page}"' not in tests]
    assert not unread, f"{unread}: add them to RUN_HERE, or run them in a test of their own"


def list_commands():
    """The commands of every page: in blocks of a shell, after a prompt, or alone in a plain block."""
    for page in PAGES:
        for language, block in BLOCK.findall(read(page)):
            shell = language in ("", "bash", "sh", "console")
            for line in block.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ").split(" && ")[-1]
                if command.startswith("shiftproof ") and (shell or line.startswith("$ ")):
                    yield page, command


@pytest.mark.parametrize(("page", "command"), list(dict.fromkeys(list_commands())))
def test_a_command_on_a_page_is_one_that_the_command_line_takes(
    page, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(command.partition(" #")[0])
    verb, words = words[0], [word for word in words[1:] if word != "--no-config"]
    if verb.startswith("--"):
        return
    if page in ("index.md", "settings.md"):  # after `init` has written the settings
        Path("shiftproof.toml").write_text('[bench]\nmodel = "demo"\ndata = "d"\nout = "run"\n')
    get_command(cli.app).commands[verb].make_context(verb, words)


def test_a_model_on_a_page_is_named_with_its_source():
    # `init` alone takes the bare name of a file.
    bare = [
        (page, command)
        for page, command in list_commands()
        for model in re.findall(r"(?:--model|-m) \"?([^\s\"]+)", command)
        if not model.startswith("demo") and ":" not in model.partition("?")[0]
        if command.split()[1] not in ("init", "compare")
    ]
    assert bare == []


def test_the_settings_on_their_page_are_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [block] = [code for language, code in BLOCK.findall(read("settings.md")) if language == "toml"]
    Path("shiftproof.toml").write_text(block)
    defaults = config.read_defaults(load_verb("bench"), list(VERBS), load_verb)
    assert defaults["severities"] == "1,3,5"
    assert defaults["device"] == "cuda"
    assert config.read_defaults(load_verb("corrupt"), list(VERBS), load_verb) == {
        "image_format": "jpeg"
    }
