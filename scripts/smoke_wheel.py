"""Build wheel and sdist, install both outside of the repository, and use what was installed.

    python scripts/smoke_wheel.py                       # every Python from 3.10 on that is here
    python scripts/smoke_wheel.py --python python3.12 --extras
    python scripts/smoke_wheel.py --sizes benchmarks/results/install.json

Each Python gets an environment of its own, without an extra: the command line, the corruptions, the
metrics and the reading of a finished run have to work there. The wheel carries its types: a user's
script is checked against it by mypy, where that is installed beside this script. ``--extras`` asks the
index whether each extra can be installed; ``--sizes`` writes what the bare install takes, by package.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

USE = """
import json, subprocess, sys
from pathlib import Path

import numpy as np
from PIL import Image

import shiftproof
from shiftproof.metrics import top_k_error

assert Path(shiftproof.__file__).is_relative_to(sys.prefix), shiftproof.__file__
image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
foggy = shiftproof.corrupt(image, "fog", severity=3, seed=0)
assert foggy.shape == image.shape and (foggy != image).any()
assert top_k_error(np.eye(3), np.arange(3), 1).mean() == 0
Path("photos").mkdir()
Image.fromarray(image).save("photos/a.png")
for words in (
    ["--version"],
    ["corruptions"],
    ["doctor"],
    ["corrupt", "photos", "copies", "-c", "gaussian_noise,glass_blur", "-s", "1", "-w", "1"],
):
    subprocess.run([sys.executable, "-m", "shiftproof", *words], check=True, stdout=subprocess.DEVNULL)
assert len(list(Path("copies").rglob("a.png"))) == 2
refused = subprocess.run(
    [sys.executable, "-m", "shiftproof", "bench", "--model", "timm:resnet18", "--data", "photos",
     "--out", "run"],
    capture_output=True, text=True,
)
assert refused.returncode == 2 and "pip install" in refused.stderr, refused.stderr
run = shiftproof.load_run(sys.argv[1])
assert run.records().num_rows > 0 and run.scores.models
print(shiftproof.__version__)
"""
"""What a user does who has installed nothing else; the argument is a finished run."""

TYPED = """
import numpy as np

import shiftproof
from shiftproof import corruptions, load_run, metrics

image = np.zeros((8, 8, 3), np.uint8)
reveal_type(shiftproof.corrupt(image, "fog", severity=3, seed=0))
reveal_type(metrics.interval_over_seeds([1.0, 2.0]).lower)
names: list[str] = list(corruptions.COMMON)
shiftproof.corrupt(image, "fog", severity="three", seed=0)
"""
"""A user's script: mypy has to know what comes back, and to find the fault of the last line."""

INSTALL = ("-m", "pip", "install", "-q", "--no-compile")

KNOWN = ("ndarray", "float", "call-overload")


def main() -> int:
    """Return 1 where anything fails, which has been told by then."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", action="append", help="an interpreter; may be given again")
    parser.add_argument("--extras", action="store_true", help="see whether every extra resolves")
    parser.add_argument("--sizes", type=Path, metavar="FILE", help="write what an install takes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wheel, sdist = build(folder / "dist")
        check_contents(wheel)
        for python in asked.python or find_pythons():
            check_python(python, wheel, folder / name_of(python))
        environment = folder / name_of(python)
        if asked.sizes:
            write_sizes(environment, asked.sizes)
        run(environment / "bin/python", *INSTALL, "--force-reinstall", "--no-deps", sdist)
        use(environment / "bin/python", f"{environment.name}, sdist")
        if asked.extras:
            check_extras(wheel)
    return 0


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """Run a command without what would lead it to the repository, and return what it printed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build both, the wheel out of the sdist, as an index would give them."""
    environment = make_environment(sys.executable, folder.parent / "build")
    run(environment, "-m", "pip", "install", "-q", "build", "hatchling")
    run(environment, "-m", "build", "--no-isolation", "-o", folder, ROOT)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def make_environment(python: str, folder: Path) -> Path:
    """Make an empty environment and return its interpreter."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def check_contents(wheel: Path) -> None:
    """Check that the wheel has its types, tables and templates, and nothing beside the packages."""
    names = zipfile.ZipFile(wheel).namelist()
    wanted = ("shiftproof/py.typed", "shiftproof/labels/imagenet.csv", "shiftproof_reproduce/")
    missing = [one for one in wanted if not any(name.startswith(one) for name in names)]
    strange = [
        n for n in names if not re.match(r"shiftproof(_reproduce)?(-[\d.]+\.dist-info)?/", n)
    ]
    if missing or strange:
        sys.exit(f"{wheel.name}: missing {missing}, not expected {strange}")


def find_pythons() -> list[str]:
    """The interpreters from 3.10 on that pyenv has, or those on the path."""
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {path.name: str(path / "bin" / "python") for path in homes.glob("3.1[0-9]*")}
    return [found[name] for name in sorted(found)] or [sys.executable]


def name_of(python: str) -> str:
    """Return what an environment is called: by the version of Python."""
    version = run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    return f"python{version}"


def check_python(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel for an interpreter into a folder, and use it."""
    own = make_environment(python, folder)
    run(own, *INSTALL, wheel)
    use(own, f"{folder.name}, wheel")


def use(python: Path, name: str) -> None:
    """Use the package that is installed for an interpreter, elsewhere than in the repository."""
    with tempfile.TemporaryDirectory() as elsewhere:
        finished = ROOT / "tests" / "runs" / "format-2"
        version = run(python, "-c", USE, finished, cwd=Path(elsewhere)).strip()
        typed = check_types(python, Path(elsewhere))
    print(f"{name}: shiftproof {version} works{typed}", flush=True)


def check_types(python: Path, folder: Path) -> str:
    """Check a user's script against the package that is installed for an interpreter."""
    try:
        metadata.version("mypy")
    except metadata.PackageNotFoundError:
        return ""
    script = folder / "user.py"
    script.write_text(TYPED)
    words = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, script]
    told = subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False
    ).stdout
    missing = [word for word in KNOWN if word not in told]
    if missing or "Found 1 error" not in told:
        sys.exit(f"types: expected {KNOWN} and one error, got:\n{told}")
    return ", and its types are known"


def check_extras(wheel: Path) -> None:
    """Ask the index for everything that each extra would install; nothing is installed."""
    with zipfile.ZipFile(wheel) as file:
        text = file.read(next(n for n in file.namelist() if n.endswith("METADATA"))).decode()
    for extra in re.findall(r"^Provides-Extra: (\S+)$", text, re.MULTILINE):
        wanted = f"{wheel}[{extra}]"
        run(sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", wanted)
        print(f"{extra}: resolves", flush=True)


def write_sizes(environment: Path, target: Path) -> None:
    """Write the megabytes of each package of an environment, as its own list of files has them."""
    home = next(environment.glob("lib/python*/site-packages"))
    sizes = {}
    for one in metadata.distributions(path=[str(home)]):
        if one.name in ("pip", "setuptools"):
            continue
        paths = [Path(str(one.locate_file(file))) for file in one.files or ()]
        total = sum(path.stat().st_size for path in paths if path.is_file())
        sizes[one.name] = {"version": one.version, "megabytes": round(total / 1e6, 1)}
    ordered = dict(sorted(sizes.items(), key=lambda item: -item[1]["megabytes"]))
    result = {
        "python": run(environment / "bin" / "python", "--version").split()[1],
        "megabytes": round(sum(one["megabytes"] for one in sizes.values()), 1),
        "packages": ordered,
    }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{target}: {result['megabytes']} MB in {len(sizes)} packages")


if __name__ == "__main__":
    sys.exit(main())
