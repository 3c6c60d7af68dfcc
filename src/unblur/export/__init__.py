"""From network to exact ONNX graph: rewrites, trace, checks, casts."""
