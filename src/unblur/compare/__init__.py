"""Fidelity, quality, latency, verdict and report of engines."""

from unblur.compare.load import load_report

__all__ = ["load_report"]
