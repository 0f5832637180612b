"""The files of a run as bytes, to compare with another run."""

TOLD = ("run.json", "stability.json")
"""Files that tell when and by what command a run came about, as the manifest of vectors does."""


def everything(folder):
    """Return all files but those with the provenance of the run."""
    kept = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name not in TOLD and not path.name.startswith(".")
    ]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}
    return {
        name: content
        for name, content in found.items()
        if name != "manifest.json" or b'"command"' not in content
    }
