"""What the store makes: graphs, ranges, 8-bit graphs, engines."""
