"""What a canonical mode is, and the function that all modes are made with."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

# Entered around one canonical pass. At its end everything is as before, whatever happened inside.
Mode = Callable[[], AbstractContextManager[None]]


@contextmanager
def attributes(target: Any, **values: Any) -> Iterator[None]:
    """While active, attributes of `target` have these values. The attributes must exist."""
    saved = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in saved.items():
            setattr(target, name, value)


def unchanged(backend: Any) -> Mode:
    """Return the mode of a backend whose extend kernels are canonical as they are: no change."""
    return nullcontext
