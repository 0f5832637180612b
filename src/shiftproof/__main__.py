"""``python -m shiftproof``."""

from shiftproof.cli import main

main()
