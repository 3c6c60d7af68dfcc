"""Door: checkpoint and calibration frames -> 8-bit graph. The work is in unblur.cli.calibrate_network."""

from unblur.cli.calibrate_network import main

if __name__ == "__main__":
    raise SystemExit(main())
