"""TensorRT and TensorRT for RTX: product, builder, engine file, runner."""
