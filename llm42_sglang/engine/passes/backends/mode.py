"""What a canonical mode is, and the tool that all of them are made with."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

# Entered around one canonical pass; leaves everything as it was, whatever happens inside.
Mode = Callable[[], AbstractContextManager[None]]


@contextmanager
def attributes(target: Any, **values: Any) -> Iterator[None]:
    """While active, attributes of `target` have these values. They must exist before."""
    saved = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in saved.items():
            setattr(target, name, value)


def unchanged(backend: Any) -> Mode:
    """The mode of a backend whose extend kernels are canonical as they are."""
    return nullcontext
