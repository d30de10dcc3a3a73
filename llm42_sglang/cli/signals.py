"""Signals that end a command: none gets lost, and none comes between a process and its owner."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    with _handled(ENDING, note, came):
        yield


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """In the block SIGTERM and SIGHUP are Ctrl-C, after which pytest ends what fixtures hold."""
    main = threading.current_thread() is threading.main_thread()
    with _handled(ENDING[1:] if main else (), signal.default_int_handler):
        yield


@contextmanager
def _handled(
    numbers: Sequence[signal.Signals],
    handler: Callable[[int, FrameType | None], None],
    came: Sequence[int] = (),
) -> Iterator[None]:
    """In the block these signals have this handler. Those in `came` are raised at its end.

    A signal whose handler raises could come between two replacements, and the first of them would
    last. So all wait until the handlers are replaced, or are those of before.
    """
    before = {number: signal.getsignal(number) for number in _heeded(numbers)}
    try:
        with _masked(before):
            for number in before:
                signal.signal(number, handler)
        yield
    finally:
        with _masked(before):
            for number, old in before.items():
                signal.signal(number, old)
            for number in dict.fromkeys(came):
                signal.raise_signal(number)


@contextmanager
def _masked(numbers: Iterable[int]) -> Iterator[None]:
    """Signals that come in the block wait for its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # it raises what came just before
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heeded(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Those that are not ignored, as SIGHUP is under nohup."""
    return [one for one in numbers if signal.getsignal(one) not in (signal.SIG_IGN, None)]
