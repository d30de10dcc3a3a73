"""Handlers of signals are those of before, whenever a signal comes."""

import signal
from contextlib import contextmanager, nullcontext

import pytest

from llm42_sglang.cli import signals
from llm42_sglang.cli.signals import as_ctrl_c, held_back

HEEDED = len(signals.ENDING)


class CameError(Exception):
    """Raised by the handler of SIGTERM."""


@contextmanager
def coming_after(monkeypatch, call: int):
    """SIGTERM has a handler that raises, and comes when so many handlers were set. What is yielded
    tells whether those of before are back."""

    def raises(number, frame) -> None:
        raise CameError

    real, calls = signal.signal, []
    own = {number: real(number, signal.default_int_handler) for number in signals.ENDING}
    real(signal.SIGTERM, raises)
    before = {number: signal.getsignal(number) for number in own}

    def set_handler(*arguments):
        old = real(*arguments)
        calls.append(arguments)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return old

    monkeypatch.setattr(signal, "signal", set_handler)
    try:
        yield lambda: before == {number: signal.getsignal(number) for number in own}
    finally:
        for number, handler in own.items():
            real(number, handler)


@pytest.mark.parametrize("call", range(1, 2 * HEEDED + 1))
def test_a_signal_while_handlers_are_replaced_has_its_effect_once(monkeypatch, call):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with coming_after(monkeypatch, call) as as_before:
        with pytest.raises(CameError), held_back():
            pass
        assert as_before()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


@pytest.mark.parametrize("call", range(1, 2 * len(signals.ENDING[1:]) + 1))
def test_so_it_is_where_they_are_ctrl_c(monkeypatch, call):
    with coming_after(monkeypatch, call) as as_before:
        with pytest.raises((CameError, KeyboardInterrupt)), as_ctrl_c():
            pass
        assert as_before()


def test_negative_control_a_signal_that_does_not_wait_leaves_a_handler(monkeypatch):
    monkeypatch.setattr(signals, "_masked", nullcontext)
    with coming_after(monkeypatch, HEEDED + 2) as as_before:
        with pytest.raises(CameError), held_back():
            pass
        assert not as_before()
