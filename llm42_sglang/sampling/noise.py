"""Gumbel noise as a function of (seed, position, token id), and of nothing else.

A counter-based generator (the splitmix64 mixer) instead of a stateful one: there is no stream to
advance, so no draw can depend on how many draws came before it, or on who made them.
"""

import torch

DEFAULT_SEED = 42  # of a request with temperature > 0 and no seed; also SGLang's default

_BITS64 = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd: consecutive counters land far apart
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_UNIFORM_BITS = 52


def gumbel(seed: int, position: int, vocab_size: int, device: torch.device | str) -> torch.Tensor:
    """Noise of every token id for the token drawn at `position`: [vocab_size], float64."""
    return gumbel_at(seed, position, torch.arange(vocab_size, device=device))


def gumbel_at(seed: int, position: int, ids: torch.Tensor) -> torch.Tensor:
    """The same noise for some token ids only. ids: [n] int64; returns [n] float64."""
    return uniform_at(seed, position, ids).log_().neg_().log_().neg_()


def uniform_at(seed: int, position: int, ids: torch.Tensor) -> torch.Tensor:
    """Uniforms strictly inside (0, 1): odd multiples of 2^-53, all exact in float64.

    ids: [n] int64; returns [n] float64. seed: any 64-bit integer, signed.
    """
    assert -(1 << 63) <= seed < 1 << 63, f"seed {seed} has more than 64 bits"
    key = _mix_int(_mix_int(seed & _BITS64) + position)
    bits = _mix_(ids * _signed(_STEP) + _signed(key))
    return _shift_right(bits, 64 - _UNIFORM_BITS).double().add_(0.5).mul_(2.0**-_UNIFORM_BITS)


def _mix_int(x: int) -> int:
    """splitmix64's next output from state x, in Python integers."""
    x = (x + _STEP) & _BITS64
    for shift, factor in _MIX:
        x = ((x ^ (x >> shift)) * factor) & _BITS64
    return x ^ (x >> _LAST_SHIFT)


def _mix_(x: torch.Tensor) -> torch.Tensor:
    """The same mixer without the step, in place; int64 products wrap."""
    for shift, factor in _MIX:
        x.bitwise_xor_(_shift_right(x, shift)).mul_(_signed(factor))
    return x.bitwise_xor_(_shift_right(x, _LAST_SHIFT))


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift: torch's own copies the sign bit."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The int64 with the bits of x, 0 <= x < 2^64."""
    return x - (1 << 64) if x >> 63 else x
