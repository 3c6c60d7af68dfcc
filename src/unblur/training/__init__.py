"""Blur synthesis, paired data, losses and the training loop."""
