"""``python -m kmdask`` is the command ``kmdask``."""

from kmdask.cli import main

main()
