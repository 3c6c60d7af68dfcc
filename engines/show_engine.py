"""Door: the X-ray of an engine. The work is in unblur.cli.show_engine."""

from unblur.cli.show_engine import main

if __name__ == "__main__":
    raise SystemExit(main())
