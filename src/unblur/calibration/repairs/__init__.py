"""Rewrites that win back decibels: before quantisation, or after it."""
