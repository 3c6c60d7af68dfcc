"""Errors, configuration, artefacts, provenance, console: what every room stands on."""
