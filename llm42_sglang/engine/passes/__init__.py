"""Canonical passes: their shape, how one is run, and what attention backends must do for it."""
