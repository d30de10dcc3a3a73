"""How many examples Hypothesis draws for a fuzzer, and from which seed."""

from collections.abc import Callable

from hypothesis import HealthCheck, Phase, seed, settings


def draws(examples: int, number: int | None) -> Callable[[Callable], Callable]:
    """Return a decorator for a test with `given`. number: the seed; None: always the same."""

    def decorate(test: Callable) -> Callable:
        drawn = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=number is None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            print_blob=False,
        )(test)
        return drawn if number is None else seed(number)(drawn)

    return decorate
