"""Door: fidelity, quality and latency of engines, as a report. The work is in unblur.cli.compare_engines."""

from unblur.cli.compare_engines import main

if __name__ == "__main__":
    raise SystemExit(main())
