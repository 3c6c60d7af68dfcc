"""Door: ONNX graph -> engine. The work is in unblur.cli.build_engine."""

from unblur.cli.build_engine import main

if __name__ == "__main__":
    raise SystemExit(main())
