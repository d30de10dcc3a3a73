"""n > 1: SGLang sends the same request n times; each needs a seed of its own.

The n copies share one parameter object, which is how they are told apart from others. The request
that warms the prefix cache beforehand has a copy of it, and is left alone.
"""

from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.sampling import DEFAULT_SEED

MAX_WAITING = 4096  # requests whose samples were announced and, after an error, never sent
_INT64 = 1 << 64


class Samples:
    """Numbers the samples of requests in flight."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[SamplingParams, int]] = {}  # by identity, with the count

    def expect(self, params: SamplingParams) -> None:
        """n samples with these parameters will be sent."""
        if params.n > 1:
            while len(self._sent) >= MAX_WAITING:
                del self._sent[next(iter(self._sent))]  # the oldest
            self._sent[id(params)] = (params, 0)  # held, so that the id stays its own

    def next(self, params: SamplingParams) -> SamplingParams:
        """The parameters to send: a copy with the sample's seed, or `params` itself."""
        expected, index = self._sent.get(id(params), (None, 0))
        if expected is not params:
            return params
        if index + 1 == params.n:
            del self._sent[id(params)]
        else:
            self._sent[id(params)] = (params, index + 1)
        numbered = params.__copy__()
        numbered.sampling_seed = seed_of_sample(params.sampling_seed, index)
        return numbered


def seed_of_sample(seed: int | None, index: int) -> int:
    """seed + index, wrapped into 64 signed bits; without a seed, from the default."""
    total = (DEFAULT_SEED if seed is None else seed) + index
    return (total + _INT64 // 2) % _INT64 - _INT64 // 2
