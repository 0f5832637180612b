"""The files of a run as bytes, to be held against another's."""


def everything(folder):
    """All files but the one that tells how the run came about."""
    kept = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json" and not path.name.startswith(".")
    ]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}
