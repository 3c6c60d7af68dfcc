"""Frames, fidelity, latency and crops."""
