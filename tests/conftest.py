"""For all tests."""

import os
import signal

import pytest

# Threads of a parallel loop that wait give their core away. Several processes share the cores
# here, and one that spins can take ten times as long. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell that starts a command in the background has it ignore Ctrl-C, and so do the processes that
# it starts. Tests that press it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals_as_before():
    """A command that a test calls in this process has SIGTERM raise SystemExit, which fails a test.
    After it SIGTERM must end pytest."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
