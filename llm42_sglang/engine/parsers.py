"""Parsers of tool calls and reasoning have a time limit.

They read what a client or a model has written, in the event loop, by patterns that may backtrack:
200 characters can take hours. No thread would help, for a match keeps the interpreter to itself.
But Python looks for signals while it matches, in its main thread, and that is where the loop runs.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from llm42_sglang.frontend.options import Refused

LIMIT_S = 0.5  # for all that one call reads; what is well meant takes milliseconds


class _Late(BaseException):
    """Not an Exception: parsers catch those and go on."""


def parse_in_time(original, *args, **kwargs) -> Any:
    """AROUND the methods of FunctionCallParser and ReasoningParser that read a text. Raises
    Refused."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGALRM) is _give_up:  # one of them calls another
        return original(*args, **kwargs)
    try:
        with _alarm():
            return original(*args, **kwargs)
    except _Late:
        raise Refused(f"the text cannot be parsed within {LIMIT_S} s") from None


@contextmanager
def _alarm() -> Iterator[None]:
    """Raises _Late once, inside the block: setting the handler back delivers what is due."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(*_: Any) -> NoReturn:
    raise _Late
