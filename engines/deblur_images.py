"""Door: pictures in, deblurred pictures out. The work is in unblur.cli.deblur_images."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # a Python without unblur is told there what to do

from unblur.cli.deblur_images import main

if __name__ == "__main__":
    raise SystemExit(main())
