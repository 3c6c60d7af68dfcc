"""The kernels of an engine: parsed, sorted, counted, held against the roofline."""
