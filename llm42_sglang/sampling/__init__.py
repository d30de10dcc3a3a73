"""Samplers whose draw for a row depends on that row alone."""

from llm42_sglang.sampling.greedy import greedy

__all__ = ["greedy"]
