"""Call the command line in this process."""

from shiftproof import cli


def run(*words):
    """Run a command and return its exit code; other words are converted to texts."""
    return cli.run([str(word) for word in words])


def run_and_read(capsys, *words):
    """Run a command and return its exit code and the text of both streams."""
    code = run(*words)
    printed = capsys.readouterr()
    return code, printed.out + printed.err
