"""What a backend runs: the Runner protocol, its implementations, and the engines by name."""
