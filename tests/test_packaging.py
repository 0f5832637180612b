"""What is published beside the package says the same as the package."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import jinja2
import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


release = load_script("release")

STATED = ("src/shiftproof/_version.py", "CITATION.cff", "recipe/meta.yaml", "CHANGELOG.md")


@pytest.fixture
def tree(tmp_path):
    """The files that state a version, as of a release of 1.2.3."""
    version = re.search(release.VERSION, (ROOT / STATED[0]).read_text())[1]
    for name in STATED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8").replace(version, "1.2.3")
        (tmp_path / name).write_text(
            re.sub(r"^## 1\.2\.3 \(.*\)$", "## 1.2.3 (2030-01-31)", text, flags=re.MULTILINE)
        )
    return tmp_path


# ---------------------------------------------------------------- releases


def test_all_files_of_the_repository_say_one_version():
    assert release.find_mismatches(ROOT) == []


def test_a_release_whose_files_agree_is_let_through(tree):
    assert release.find_mismatches(tree, "v1.2.3") == []


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        (STATED[0], "1.2.3", "1.2.4", "CITATION.cff says version 1.2.3, the package 1.2.4"),
        (
            STATED[0],
            "1.2.3",
            "1.2.4",
            "The tag is v1.2.3, and the package's version asks for v1.2.4",
        ),
        (STATED[0], "1.2.3", "1.2.4", "CHANGELOG.md begins with 1.2.3, the package is 1.2.4"),
        (STATED[0], "__version__", "version", "states no version"),
        ("CITATION.cff", "1.2.3", "1.2.2", "CITATION.cff says version 1.2.2"),
        ("recipe/meta.yaml", "1.2.3", "1.2.2", "recipe/meta.yaml says version 1.2.2"),
        ("CHANGELOG.md", "(2030-01-31)", "(unreleased)", "unreleased where the day"),
        ("CHANGELOG.md", "(2030-01-31)", "(2030-02-31)", "2030-02-31 where the day"),
        ("CHANGELOG.md", "## 1.2.3", "## 1.3.0 (2031-01-01)\n\n## 1.2.3", "begins with 1.3.0"),
        ("CHANGELOG.md", "## 1.2.3", "## 1.2.3 (2030-01-31)\n\n## 1.2.3", "has 1.2.3 twice"),
        ("CHANGELOG.md", "## 1.2.3", "## 1.2.3 (2030-01-31)\n\n## 1.2.2", "says nothing of 1.2.3"),
    ],
)
def test_a_release_whose_files_differ_is_refused(tree, name, before, after, says):
    path = tree / name
    path.write_text(path.read_text(encoding="utf-8").replace(before, after, 1), encoding="utf-8")
    assert any(says in sentence for sentence in release.find_mismatches(tree, "v1.2.3"))


def test_without_a_tag_the_changelog_needs_no_day(tree):
    path = tree / "CHANGELOG.md"
    path.write_text(path.read_text(encoding="utf-8").replace("(2030-01-31)", "(unreleased)"))
    assert release.find_mismatches(tree) == []
    shutil.rmtree(tree / "recipe")
    with pytest.raises(FileNotFoundError):
        release.find_mismatches(tree)


# ---------------------------------------------------------------- other ways to install

CONDA_NAMES = {"opencv-python-headless": "py-opencv"}


def test_the_recipe_needs_what_the_package_needs():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    recipe = yaml.safe_load(jinja2.Template(text).render(environ={}, PYTHON="python"))
    run = set(recipe["requirements"]["run"])
    wanted = {f"python {project['requires-python']}"}
    for one in project["dependencies"]:
        name, bound = re.match(r"([\w-]+)(>=[\d.]+)", one).groups()
        wanted.add(f"{CONDA_NAMES.get(name, name.lower())} {bound}")
    assert run == wanted
    name, _, target = recipe["build"]["entry_points"][0].partition(" = ")
    assert project["scripts"] == {name: target}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_a_docker_file_copies_what_is_there_and_what_docker_is_given(name):
    text = (ROOT / "docker" / name).read_text(encoding="utf-8")
    given = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [line.split()[0] for line in lines if line and line[0] != "#"]
    assert set(instructions) <= {
        "FROM",
        "WORKDIR",
        "RUN",
        "COPY",
        "ARG",
        "ENV",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line
    ]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists()
        assert f"!{path}" in given
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")
    extras = re.search(r"ARG EXTRAS=(\S+)", text)[1].split(",")
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras:
        assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_the_forms_of_issues_are_as_github_reads_them(file):
    form = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.name == "config.yml":
        assert form["contact_links"]
        return
    assert form["name"]
    assert form["description"]
    names = [part["id"] for part in form["body"]]
    assert len(set(names)) == len(names)
    for part in form["body"]:
        assert part["type"] in {"textarea", "dropdown", "input", "checkboxes"}
        assert part["attributes"]["label"]
        assert part["type"] != "dropdown" or part["attributes"]["options"]


def test_the_classifiers_name_the_pythons_that_were_tried():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"Python :: (3\.\d+)", text)
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    tried = re.search(r"tested outside the repository on Python ([\d., and]+) \(", page)
    assert tried is not None
    assert named == re.findall(r"3\.\d+", tried[1])
