"""Door: checkpoint -> exact ONNX graph. The work is in unblur.cli.to_onnx."""

from unblur.cli.to_onnx import main

if __name__ == "__main__":
    raise SystemExit(main())
