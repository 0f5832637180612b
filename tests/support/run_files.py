"""The files of a run as bytes, to be held against another's."""

TOLD = ("run.json", "stability.json")
"""Files that tell when and by what command a run came about, as the manifest of vectors does."""


def everything(folder):
    """All files but those that tell how the run came about."""
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
