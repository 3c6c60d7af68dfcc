"""From checkpoint to proven exact ONNX graph."""
