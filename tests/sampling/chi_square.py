"""Pearson's chi-square test, written out."""

from collections.abc import Sequence
from math import inf, sqrt

SUSPICIOUS_Z = 5.0  # one-sided p-value 3e-7; the draws are fixed, so a test passes always or never


def chi_square_z(counts: Sequence[int], probs: Sequence[float]) -> float:
    """How many standard deviations too far from `probs` the counts are; inf if impossible.

    Wilson and Hilferty: the cube root of chi-square over its degrees of freedom is near normal.
    """
    draws = sum(counts)
    if any(n and not p for n, p in zip(counts, probs, strict=True)):
        return inf
    possible = [(n, draws * p) for n, p in zip(counts, probs, strict=True) if p]
    assert all(expected >= 5 for _, expected in possible), "cells too small for chi-square"
    freedom = len(possible) - 1
    if freedom == 0:
        return -inf
    chi2 = sum((n - expected) ** 2 / expected for n, expected in possible)
    spread = 2 / (9 * freedom)
    return ((chi2 / freedom) ** (1 / 3) - (1 - spread)) / sqrt(spread)
