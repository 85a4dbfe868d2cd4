"""`python -m medloom`, also as `torchrun -m medloom`."""

import sys

from medloom.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
