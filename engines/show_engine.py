"""Door: the X-ray of an engine. The work is in unblur.cli.show_engine."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.show_engine import main

if __name__ == "__main__":
    raise SystemExit(main())
