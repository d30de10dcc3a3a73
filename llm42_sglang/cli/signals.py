"""Signals that end a command: none gets lost, and none comes between a process and its owner."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_on_signals() -> None:
    """Exit on SIGTERM and SIGHUP as on Ctrl-C, so that servers are stopped and files are whole."""
    if threading.current_thread() is threading.main_thread():
        for number in _heeded(ENDING[1:]):
            signal.signal(number, lambda number, frame: sys.exit(128 + number))


@contextmanager
def held_back() -> Iterator[None]:
    """Signals that come in the block have their effect at its end.

    A process that a signal had interrupted while it starts another would not know whom to end.
    """
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main one
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in _heeded(ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """In the block SIGTERM and SIGHUP are Ctrl-C, after which pytest ends what fixtures hold."""
    main = threading.current_thread() is threading.main_thread()
    numbers = _heeded(ENDING[1:]) if main else []
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Those that are not ignored, as SIGHUP is under nohup."""
    return [one for one in numbers if signal.getsignal(one) not in (signal.SIG_IGN, None)]
