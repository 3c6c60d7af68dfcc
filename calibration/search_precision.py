"""Door: checkpoint and budget -> which convolutions go to 8 bits. The work is in unblur.cli.search_precision."""

from unblur.cli.search_precision import main

if __name__ == "__main__":
    raise SystemExit(main())
