"""Determinism follows the weights: what an update of a running server changes besides them."""
