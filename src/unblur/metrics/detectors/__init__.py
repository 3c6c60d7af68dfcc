"""Detectors of pictures gone wrong in ways that an average hides."""
