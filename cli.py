"""The program from a checkout: `python cli.py ...` is `gol-decouple ...`."""

import sys

from gol_decouple.cli import main

if __name__ == "__main__":
    sys.exit(main())
