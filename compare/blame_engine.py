"""Door: the first tensor, layer and channel where two graphs part. The work is in unblur.cli.blame_engine."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.blame_engine import main

if __name__ == "__main__":
    raise SystemExit(main())
