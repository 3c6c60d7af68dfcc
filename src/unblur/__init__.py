"""unblur: from a trained deblurring network to an engine that someone can ship."""

__version__ = "0.1.0"
