"""Pictures: files, the pixel contract, pairs of blurred and sharp frames."""
