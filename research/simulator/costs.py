"""What each forward costs, in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import linear_regression, mean

# As `llm42 bench passes` measures them, in seconds: "pass" by slots and page index, "decode" by
# requests and context.
Costs = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds. The defaults stand for an 8B model in bf16 on one H100.

    The defaults are guesses from data sheets, not measurements:

    - a decode step reads 16 GB of weights at 3.35 TB/s, which takes 4.8 ms; launches, sampling and
      scheduling make it 7 ms;
    - a row of it reads about 1000 tokens of KV, 131 KB each: 0.04 ms;
    - a token of a prefill and a row of a pass take 16 GFLOP at 650 TFLOP/s: 0.025 ms;
    - a pass also drains the overlap loop and moves its results: 2 ms.

    So a pass of 512 rows costs as much as two decode steps of a full batch. The cost of attention
    does not grow with the context here.
    """

    decode_base_s: float = 7e-3
    decode_row_s: float = 40e-6
    prefill_base_s: float = 7e-3
    prefill_token_s: float = 25e-6
    pass_base_s: float = 9e-3
    pass_row_s: float = 25e-6

    @classmethod
    def through(cls, decode: Mapping[int, float], passes: Mapping[int, float]) -> "CostModel":
        """Straight lines through measured forwards, by least squares.

        decode: seconds by requests; passes: seconds by rows. An ordinary prefill is taken to cost
        what a pass of as many rows does.
        """
        decode_row_s, decode_base_s = _line(decode)
        row_s, base_s = _line(passes)
        return cls(
            decode_base_s=decode_base_s,
            decode_row_s=decode_row_s,
            prefill_base_s=base_s,
            prefill_token_s=row_s,
            pass_base_s=base_s,
            pass_row_s=row_s,
        )

    def decode_s(self, rows: int) -> float:
        """One decode step of `rows` requests."""
        return self.decode_base_s + self.decode_row_s * rows

    def prefill_s(self, tokens: int) -> float:
        """One ordinary prefill forward."""
        return self.prefill_base_s + self.prefill_token_s * tokens

    def pass_s(self, rows: int) -> float:
        """One canonical pass of so many rows, padding included."""
        return self.pass_base_s + self.pass_row_s * rows


def cost_model(page: int, costs: Costs) -> CostModel:
    """Straight lines through the means over pages and contexts; page: T of the measured passes."""
    decode = {int(requests): mean(by.values()) for requests, by in costs["decode"].items()}
    passes = {int(slots) * page: mean(by.values()) for slots, by in costs["pass"].items()}
    return CostModel.through(decode, passes)


def _line(points: Mapping[int, float]) -> tuple[float, float]:
    """Slope and intercept, neither negative; flat through a single point."""
    if len(points) == 1:
        return 0.0, next(iter(points.values()))
    slope, intercept = linear_regression(list(points), list(points.values()))
    return max(0.0, slope), max(0.0, intercept)  # more work never costs less
