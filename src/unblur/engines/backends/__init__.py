"""The engines of each backend, as records: what `--help` and planning read without a runtime."""
