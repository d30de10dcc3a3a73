"""Seeds that the server draws, for requests that name no number."""

import secrets

FRESH = "fresh"  # what a request writes in place of a number
# The seeds of n samples are this one and those that follow. All stay below 2**53: JSON parsers that
# read numbers as doubles keep them exactly, so a client can send back what the receipt says.
_BITS = 52


def fresh_seed() -> int:
    """Return a seed of the operating system's randomness, from 0 to 2**52 - 1.

    It needs no agreement between processes: no two draws have anything to do with each other.
    """
    return secrets.randbits(_BITS)
