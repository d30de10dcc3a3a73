"""Traffic: who asks for what, and when."""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple


class Arrival(NamedTuple):
    """One request, before it is served."""

    at_s: float
    prompt_len: int  # tokens
    output_len: int  # tokens
    deterministic: bool
    seed: int  # of its wrong candidates: the same request errs alike in every system


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic. Lengths are uniform between half the mean and one and a half times it (a guess)."""

    requests: int = 1000
    rate_per_s: float = 0.0  # of Poisson arrivals; 0: all at once, an offline batch
    prompt_mean: int = 512  # tokens
    output_mean: int = 256  # tokens
    deterministic_share: float = 1.0  # of requests
    # Probability that a candidate differs from the pass's token. It is fitted to LLM-42, which
    # measured 2.9, 6.7, 14, 29 and 60 % of the output recomputed, for windows of 16 to 256 tokens.
    # With 0.4 % the simulated sliding windows recompute 3.0, 6.3, 13.5, 27.6 and 58.7 %. This
    # project's plain CPU shows 0.5 % with fp32 logits.
    flip_rate: float = 0.004
    seed: int = 0

    def arrivals(self) -> list[Arrival]:
        """The same list every time."""
        random = Random(self.seed)
        now_s = 0.0
        arrivals = []
        for number in range(self.requests):
            now_s += random.expovariate(self.rate_per_s) if self.rate_per_s else 0.0
            prompt, output = (
                random.randint(max(1, mean // 2), mean + mean // 2)
                for mean in (self.prompt_mean, self.output_mean)
            )
            deterministic = random.random() < self.deterministic_share
            arrivals.append(Arrival(now_s, prompt, output, deterministic, number))
        return arrivals
