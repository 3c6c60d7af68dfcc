"""Fidelity, quality, latency, verdict and report of engines."""
