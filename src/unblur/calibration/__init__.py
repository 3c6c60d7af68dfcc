"""From frames to ranges, from ranges to graphs that convolve in 8 bits, and what that costs in decibels."""
