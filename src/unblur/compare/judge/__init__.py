"""Budgets, and the verdict on them."""
