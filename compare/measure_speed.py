"""Door: engines of one network at one size against eager PyTorch. The work is in unblur.cli.measure_speed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.measure_speed import main

if __name__ == "__main__":
    raise SystemExit(main())
