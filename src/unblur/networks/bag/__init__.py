"""BAG: blur-attention modules in a generator, trained against a critic."""
