"""Door: fidelity, quality and latency of engines, as a report. The work is in unblur.cli.compare_engines."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.compare_engines import main

if __name__ == "__main__":
    raise SystemExit(main())
