"""The systems that are compared."""

from collections.abc import Container
from dataclasses import dataclass, replace

from llm42_sglang.core.policy import LanePolicy

# LLM-42's table of window x group: what was run, and the tokens recomputed per output token.
ABLATION = ((16, 32), (32, 16), (64, 8), (128, 8), (256, 1))
PAPER_RECOMPUTE = (0.029, 0.067, 0.14, 0.29, 0.60)


@dataclass(frozen=True, slots=True)
class System:
    """A way to serve deterministic requests."""

    name: str
    page: int  # T, tokens; the window where windows slide
    policy: LanePolicy
    # Sizes of decode steps whose rows are canonical. None by default: kernels of a GPU mostly sum
    # in another order in a decode step than in a pass.
    certified: Container[int] = ()
    sliding: bool = False  # windows start at the last committed token, not at multiples of T
    prefill_alone: bool = False  # a deterministic prompt is a forward of its own
    max_running: int = 128  # requests that decode at once
    prefill_tokens: int = 8192  # of one prefill batch, unless a single prompt is longer
    narrow: bool = False  # passes may have fewer slots than G, a power of two

    def pass_rows(self, pages: int) -> int:
        """Rows of a pass over so many pages: G * T, or fewer where passes may be narrow."""
        width = 1 << (pages - 1).bit_length() if self.narrow else self.policy.group
        return min(width, self.policy.group) * self.page


def ours(page: int, group: int) -> System:
    """Aligned pages; a due request decodes on, up to a page."""
    policy = LanePolicy(group=group, wait_steps=page // 2, run_ahead=page)
    return System(f"aligned {page}x{group}", page, policy)


def without_run_ahead(system: System) -> System:
    """A due request does not decode before its page is verified, so its pass runs at once."""
    policy = replace(system.policy, run_ahead=0)
    return replace(system, name=f"{system.name}, no run-ahead", policy=policy)


def with_steps(system: System, most: int) -> System:
    """Decode steps of up to `most` requests are canonical."""
    name = f"{system.name}, steps to {most} canonical"
    return replace(system, name=name, certified=range(1, most + 1))


def sliding(window: int, group: int) -> System:
    """`ours` with LLM-42's windows, which move with the rollbacks."""
    return replace(ours(window, group), name=f"sliding {window}x{group}", sliding=True)


def synchronous(window: int) -> System:
    """LLM-42's artifact as this project reads it (docs/comparison.md).

    Each request is verified alone as soon as its window is full, while all others wait.
    Deterministic prompts are prefilled one by one.
    """
    policy = LanePolicy(group=1, wait_steps=0, run_ahead=0)
    return System(f"synchronous {window}x1", window, policy, sliding=True, prefill_alone=True)
