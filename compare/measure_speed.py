"""Door: engines of one network at one size against eager PyTorch. The work is in unblur.cli.measure_speed."""

from unblur.cli.measure_speed import main

if __name__ == "__main__":
    raise SystemExit(main())
