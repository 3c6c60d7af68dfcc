"""`python -m unblur VERB`: the same as `unblur VERB`."""

from unblur.cli.app import main

raise SystemExit(main())
