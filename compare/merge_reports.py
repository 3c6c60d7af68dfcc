"""Door: reports of several machines side by side. The work is in unblur.cli.merge_reports."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.merge_reports import main

if __name__ == "__main__":
    raise SystemExit(main())
