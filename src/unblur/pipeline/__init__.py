"""The stages in order, and the store of their artefacts."""
