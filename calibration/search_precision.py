"""Door: checkpoint and budget -> which convolutions go to 8 bits. The work is in unblur.cli.search_precision."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.search_precision import main

if __name__ == "__main__":
    raise SystemExit(main())
