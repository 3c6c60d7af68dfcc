"""What an ONNX graph says, and how it runs while it is worked on."""
