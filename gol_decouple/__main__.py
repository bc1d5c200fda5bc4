"""`python -m gol_decouple`, as torchrun starts it."""

import sys

from gol_decouple.cli import main

if __name__ == "__main__":
    sys.exit(main())
