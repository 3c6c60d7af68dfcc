"""What TensorRT does not take, told before anything is built."""
