"""What a backend runs: the Runner protocol, its implementations, and the TensorRT builder."""
