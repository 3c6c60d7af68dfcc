"""Door: an engine's latency with other tools. The work is in unblur.cli.reproduce_engine."""

from unblur.cli.reproduce_engine import main

if __name__ == "__main__":
    raise SystemExit(main())
