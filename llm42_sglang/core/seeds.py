"""Seeds: of a request that names none, of n samples, and those that the server draws."""

import secrets

DEFAULT_SEED = 42  # of a request that draws and names no seed; also SGLang's default
FRESH = "fresh"  # what a request writes in place of a number
# The seeds of n samples are this one and those that follow. All stay below 2**53: JSON parsers that
# read numbers as doubles keep them exactly, so a client can send back what the receipt says.
_BITS = 52
_INT64 = 1 << 64


def seed_of_sample(seed: int | None, index: int) -> int:
    """seed + index, wrapped into 64 signed bits. Without a seed, DEFAULT_SEED + index."""
    total = (DEFAULT_SEED if seed is None else seed) + index
    return (total + _INT64 // 2) % _INT64 - _INT64 // 2


def fresh_seed() -> int:
    """Return a seed of the operating system's randomness, from 0 to 2**52 - 1.

    It needs no agreement between processes: no two draws have anything to do with each other.
    """
    return secrets.randbits(_BITS)
