"""Parsers of tool calls and reasoning have a time limit.

They run in the event loop, on text that a client or a model has written. Their patterns may
backtrack: 200 characters can take hours. A thread would not help, because a match does not release
the interpreter. But Python handles signals during a match, in its main thread, where the loop runs.
So a timer ends the match. It counts the thread's own processor time: a busy machine ends nothing.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llm42_sglang.engine.hooks import after
from llm42_sglang.frontend.options import Refused

LIMIT_S = 0.5  # of one call; ordinary texts take milliseconds
SOON_S = 0.01

_began: float | None = None  # when the call under way did, by the main thread's processor time


class _Late(BaseException):
    """Not an Exception: parsers catch those and go on."""


_WHY = "end a parse that takes too long"


@after("sglang.srt.function_call.function_call_parser.FunctionCallParser.__init__", _WHY)
@after("sglang.srt.parser.reasoning_parser.ReasoningParser.__init__", _WHY)
def limit(result: None, parser: Any, *args: Any, **kwargs: Any) -> None:
    """Limit whatever this new parser does with a text: every method that parses or looks."""
    for name in dir(type(parser)):
        if name.startswith(("parse_", "has_")):
            setattr(parser, name, partial(parse_in_time, getattr(parser, name)))


def parse_in_time(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the method, for LIMIT_S at most. Raises Refused."""
    main = threading.current_thread() is threading.main_thread()
    if not main or _began is not None:  # one of them calls another
        return original(*args, **kwargs)
    try:
        with _alarm():
            return original(*args, **kwargs)
    except _Late:
        raise Refused(f"the text cannot be parsed within {LIMIT_S} s") from None


@contextmanager
def _alarm() -> Iterator[None]:
    """Raise _Late inside the block when the time is over."""
    global _began
    _began = time.thread_time()
    before = signal.signal(signal.SIGALRM, _look)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        _began = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _look(*_: Any) -> None:
    """Raise _Late, or set the timer again if other threads had some of the time."""
    global _began
    if _began is None:
        return
    left_s = LIMIT_S - (time.thread_time() - _began)
    if left_s <= 0:
        _began = None
        raise _Late
    signal.setitimer(signal.ITIMER_REAL, max(left_s, SOON_S))
