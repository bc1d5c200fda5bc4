"""The command line: decodes arguments, calls one library function, prints what it returns.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 2 the user can mend it, 3 the environment failed,
130 and 143 stopped by SIGINT and SIGTERM, 4 `compare --fail-on-change` found that a result moved, 1 a bug of ours.
"""

from gol_decouple.cli.program import main

__all__ = ["main"]
