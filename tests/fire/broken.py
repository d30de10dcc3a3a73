"""A server with a breaking point: one place in our code, where its scheduler fails while it serves.

The environment names it:

    LLM42_BREAK=call FILE:FUNCTION N    the N-th call of a function of ours raises
    LLM42_BREAK=torch FILE:LINE N       the N-th time that a line of ours asks torch for something,
                                        there is no memory for it
    LLM42_BREAK=list PATH               nothing fails; the places that a load comes to are listed
    LLM42_BREAK=gone PATH               SGLang has no such symbol

Counting begins once the file that LLM42_ARMED names exists. FILE is relative to the package.
"""

import os
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType

import torch
from torch.overrides import TorchFunctionMode

import llm42_sglang
from tests.engine.preloaded import LLM42

VARIABLE, ARMED = "LLM42_BREAK", "LLM42_ARMED"
LISTED_AT = (1, 3)  # times that a place has been come to, when it is listed
PACKAGE = str(Path(llm42_sglang.__file__).parent) + os.sep
FOLDERS = tuple(PACKAGE + name + os.sep for name in ("engine", "core", "sampling", "platform"))
# The loop itself, which every function is called from.
OUTERMOST = "engine/scheduler.py:DeterministicScheduler.run_event_loop"

# Called with a kind of place, and the place; raises there.
Visit = Callable[[str, str], None]


class BrokenOnPurpose(RuntimeError):
    """What a drill raises; nothing of ours may expect it."""


def serve(arguments: Sequence[str]) -> None:
    """`llm42 serve` with these arguments, and the breaking point."""
    how, _, where = os.environ[VARIABLE].partition(" ")
    if how == "gone":
        owner, _, name = where.rpartition(".")
        delattr(pkgutil.resolve_name(owner), name)
    elif how == "list":
        _while_serving(_lister(Path(where)))
    else:
        _while_serving(_breaker(how, *where.rsplit(" ", 1)))
    pkgutil.resolve_name(LLM42)(["serve", *arguments])


def _lister(path: Path) -> Visit:
    seen: Counter[tuple[str, str]] = Counter()

    def visit(kind: str, place: str) -> None:
        seen[kind, place] += 1
        if seen[kind, place] in LISTED_AT:
            with path.open("a") as file:
                print(kind, place, seen[kind, place], file=file)

    return visit


def _breaker(kind: str, place: str, turn: str) -> Visit:
    visits = 0

    def visit(*here: str) -> None:
        nonlocal visits
        if here != (kind, place):
            return
        visits += 1
        if visits == int(turn):
            print(f"broken on purpose: {kind} {place}", flush=True)
            raise BrokenOnPurpose(place) if kind == "call" else torch.OutOfMemoryError(place)

    return visit


def _while_serving(visit: Visit) -> None:
    """Let `visit` see every place of ours, once the scheduler's loop begins."""
    from llm42_sglang.engine.scheduler import DeterministicScheduler

    loop = DeterministicScheduler.run_event_loop
    armed = Path(os.environ[ARMED])

    def visit_once_armed(kind: str, place: str) -> None:
        if armed.exists():
            visit(kind, place)

    def run_event_loop(scheduler) -> None:
        sys.settrace(_tracer(visit_once_armed))
        with _Torch(visit_once_armed):
            loop(scheduler)

    DeterministicScheduler.run_event_loop = run_event_loop


def _tracer(visit: Visit) -> Callable:
    def trace(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(FOLDERS) and "<" not in code.co_name:
            place = f"{_file(code)}:{code.co_qualname}"
            if place != OUTERMOST:
                visit("call", place)

    return trace


class _Torch(TorchFunctionMode):
    """Sees whatever Python asks of torch."""

    def __init__(self, visit: Visit):
        super().__init__()
        self._visit = visit

    def __torch_function__(self, func, types, args=(), kwargs=None):
        frame = sys._getframe(1)
        if frame.f_code.co_filename.startswith(FOLDERS):
            self._visit("torch", f"{_file(frame.f_code)}:{frame.f_lineno}")
        return func(*args, **kwargs or {})


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(PACKAGE)
