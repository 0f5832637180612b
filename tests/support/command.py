"""The command line, called in this process."""

from shiftproof import cli


def run(*words):
    """Run a command and return its exit code; words that are no texts become some."""
    return cli.run([str(word) for word in words])


def run_and_read(capsys, *words):
    """Run a command and return its exit code, and what it told on both streams."""
    code = run(*words)
    told = capsys.readouterr()
    return code, told.out + told.err
