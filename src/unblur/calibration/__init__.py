"""From frames to ranges: statistics, algorithms, repairs and the search."""
