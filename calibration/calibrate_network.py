"""Door: checkpoint and calibration frames -> 8-bit graph. The work is in unblur.cli.calibrate_network."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.calibrate_network import main

if __name__ == "__main__":
    raise SystemExit(main())
