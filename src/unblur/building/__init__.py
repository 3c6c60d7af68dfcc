"""From graph to engine: precision, islands, the best of several builds, and what was built."""
