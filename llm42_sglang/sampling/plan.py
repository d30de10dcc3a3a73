"""The sampling parameters of one request."""

from dataclasses import dataclass
from math import isfinite

from llm42_sglang.core.seeds import DEFAULT_SEED

WHOLE_VOCABULARY = 1 << 30  # the top_k that keeps every token; SGLang's TOP_K_ALL
_GREEDY_BELOW = 1e-6  # a lower temperature means greedy; SGLang's _SAMPLING_EPS


@dataclass(frozen=True, slots=True)
class Plan:
    """Sampling parameters with SGLang's names, ranges and meanings.

    Raises ValueError for a value outside its range. The ranges are those of SGLang's
    `SamplingParams.verify`.
    """

    temperature: float = 1.0
    top_k: int = WHOLE_VOCABULARY
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        _expect(isfinite(self.temperature) and self.temperature >= 0, "temperature", "[0, inf)")
        _expect(self.top_k >= 1, "top_k", f"[1, {WHOLE_VOCABULARY}]")
        _expect(0 < self.top_p <= 1, "top_p", "(0, 1]")
        _expect(0 <= self.min_p <= 1, "min_p", "[0, 1]")
        is_int64 = type(self.seed) is int and -(1 << 63) <= self.seed < 1 << 63
        _expect(is_int64, "sampling_seed", "[-2**63, 2**63 - 1]")

    @property
    def greedy(self) -> bool:
        """Whether the largest logit is taken and nothing is drawn."""
        return self.top_k == 1 or self.temperature < _GREEDY_BELOW


def _expect(in_range: bool, option: str, allowed: str) -> None:
    if not in_range:
        raise ValueError(f"{option} must be in {allowed}")
