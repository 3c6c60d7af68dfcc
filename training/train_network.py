"""Door: train a network. The work is in unblur.cli.train_network."""

from unblur.cli.train_network import main

if __name__ == "__main__":
    raise SystemExit(main())
