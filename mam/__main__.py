"""python -m mam"""

from __future__ import annotations

import sys

from mam.cli import main

if __name__ == "__main__":
    sys.exit(main())
