"""Door: a report becomes the baseline of later ones. The work is in unblur.cli.accept_report."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.accept_report import main

if __name__ == "__main__":
    raise SystemExit(main())
