"""Graph in, graph out: casts, phases, quantisers."""
