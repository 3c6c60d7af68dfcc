"""Pixel contracts that tests hold things to."""

from __future__ import annotations

from unblur.images.contract import PixelContract

BGR = PixelContract(channel_order="bgr", low=-0.5, high=0.5, multiple=2)
"""That of the tiny network, stated once more."""
