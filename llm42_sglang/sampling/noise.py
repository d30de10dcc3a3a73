"""Gumbel noise as a function of seed, position and token id, and of nothing else.

The generator is counter-based: it mixes the bits of its arguments with splitmix64 and keeps no
state. So no draw can depend on how many draws came before it, or for whom.
"""

import torch

_BITS64 = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd: consecutive counters land far apart
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_UNIFORM_BITS = 52


def gumbel(seed: int, position: int, vocab_size: int, device: torch.device | str) -> torch.Tensor:
    """Return the noise of every token id at `position`: [vocab_size] float64."""
    return gumbel_at(seed, position, torch.arange(vocab_size, device=device))


def gumbel_at(seed: int, position: int, ids: torch.Tensor) -> torch.Tensor:
    """Return the noise of some token ids at `position`: [n] float64. ids: [n] int64."""
    return uniform_at(seed, position, ids).log_().neg_().log_().neg_()


def uniform_at(seed: int, position: int, ids: torch.Tensor) -> torch.Tensor:
    """Return uniform numbers strictly between 0 and 1, for some token ids: [n] float64.

    ids: [n] int64. seed: a signed 64-bit integer; another one is an AssertionError.
    The numbers are odd multiples of 2^-53, which float64 holds exactly.
    """
    assert -(1 << 63) <= seed < 1 << 63, f"seed {seed} has more than 64 bits"
    key = _mix_int(_mix_int(seed & _BITS64) + position)
    bits = _mix_(ids * _signed(_STEP) + _signed(key))
    return _shift_right(bits, 64 - _UNIFORM_BITS).double().add_(0.5).mul_(2.0**-_UNIFORM_BITS)


def _mix_int(x: int) -> int:
    """Return the next output of splitmix64 from state x, in Python integers."""
    x = (x + _STEP) & _BITS64
    for shift, factor in _MIX:
        x = ((x ^ (x >> shift)) * factor) & _BITS64
    return x ^ (x >> _LAST_SHIFT)


def _mix_(x: torch.Tensor) -> torch.Tensor:
    """Mix like `_mix_int`, but without the step, and in place. Products of int64 wrap."""
    for shift, factor in _MIX:
        x.bitwise_xor_(_shift_right(x, shift)).mul_(_signed(factor))
    return x.bitwise_xor_(_shift_right(x, _LAST_SHIFT))


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift and fill with zeros. torch's own shift copies the sign bit."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """Return the int64 with the bits of x, 0 <= x < 2^64."""
    return x - (1 << 64) if x >> 63 else x
