"""The command line, called in this process."""

from shiftproof import cli


def run(*words):
    """Run a command and return its exit code; words that are no texts become some."""
    return cli.run([str(word) for word in words])
