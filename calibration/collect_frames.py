"""Door: pictures -> calibration manifest. The work is in unblur.cli.collect_frames."""

from unblur.cli.collect_frames import main

if __name__ == "__main__":
    raise SystemExit(main())
