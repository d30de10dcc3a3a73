"""Every request is checked against the server's bounds before it is sent to a scheduler.

That holds over HTTP and from `Engine`, for deterministic requests and ordinary ones.
"""

from typing import Any

import msgspec
import psutil
from sglang.srt.entrypoints.engine import SchedulerInitResult
from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
from sglang.srt.managers.tokenizer_manager import ServerStatus

from llm42_sglang.core.config import Config
from llm42_sglang.engine import faults
from llm42_sglang.frontend.bounds import (
    RESERVED_RID,
    Bounds,
    refuse_reserved_rid,
    refuse_unbounded,
    refuse_unsendable,
)
from llm42_sglang.frontend.health import PROBED
from llm42_sglang.frontend.options import Refused

_CHECKED = "llm42_checked"  # attribute of an HTTP request's state


class FrontBounds:
    """The bounds of this server. Before `learn` nothing is checked: a process without llm42's
    scheduler behaves as SGLang's."""

    def __init__(self, config: Config | None):
        self._config = config
        self._manager: Any = None
        self._bounds: Bounds | None = None
        self._schedulers: list[psutil.Process] = []

    def learn(self, launched: tuple) -> None:
        """Take the bounds from the running server.

        launched: what Engine._launch_subprocesses returns, the TokenizerManager first.
        """
        if self._config is None:
            return
        self._manager = manager = launched[0]
        (init,) = (part for part in launched if isinstance(part, SchedulerInitResult))
        self._schedulers = [psutil.Process(pid) for pid in init.all_child_pids]
        if faults.active("unbounded"):
            return
        self._bounds = Bounds(
            manager.model_config.vocab_size,
            self._config.max_n,
            manager.context_len,
            _most_characters(manager),
        )

    @property
    def manager(self) -> Any:
        """The TokenizerManager that these bounds are of; None before `learn`."""
        return self._manager

    def check(self, obj: Any, request: Any) -> None:
        """Check a request as it came. request: the HTTP request, None from `Engine`.

        Raises Refused.
        """
        if self._bounds is None or _checked(request) is obj:
            return
        refuse_unbounded(obj, self._bounds, over_http=request is not None)
        if request is None or request.url.path not in PROBED:  # SGLang's own, there
            refuse_reserved_rid(obj.rid)
        if request is not None:
            setattr(request.state, _CHECKED, obj)  # /generate asks twice

    def check_tokenized(self, tokenized: Any) -> None:
        """Check a request as it would be sent. Raises Refused."""
        if self._bounds is None:
            return
        refuse_unsendable(tokenized, self._bounds)
        if isinstance(tokenized, TokenizedGenerateReqInput):
            # These come from objects that SGLang takes with whatever is in them.
            _refuse_undecodable("sampling_params", tokenized.sampling_params)
            _refuse_undecodable("session_params", tokenized.session_params)

    def flag(self, name: str) -> Any:
        """A server argument."""
        return getattr(getattr(self._manager, "server_args", None), name, None)

    def in_flight(self) -> int:
        """The number of requests that schedulers have; 0 where a busy server cannot be trusted. It
        tells a busy server from a dead one."""
        if not self._trusted():
            return 0
        return sum(not rid.startswith(RESERVED_RID) for rid in self._manager.rid_to_state)

    def paused(self) -> bool:
        """Whether /pause_generation holds requests back, with schedulers that can be trusted."""
        return self._trusted() and self._manager.is_pause

    def _trusted(self) -> bool:
        """False while the server starts or drains, when a scheduler is gone, or when no watchdog
        would end one that hangs."""
        if self._manager is None or not self.flag("watchdog_timeout"):
            return False
        if self._manager.gracefully_exit or self._manager.server_status is ServerStatus.Starting:
            return False
        return all(map(_runs, self._schedulers))


def _checked(request: Any) -> Any:
    return None if request is None else getattr(request.state, _CHECKED, None)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _most_characters(manager: Any) -> int | None:
    """The most characters that can fit into the context. None where SGLang cuts texts itself."""
    tokenizer = manager.tokenizer
    if tokenizer is None or manager.allow_auto_truncate:
        return None
    return manager.context_len * max(map(len, tokenizer.get_vocab()))


def _refuse_undecodable(name: str, given: msgspec.Struct | None) -> None:
    """Refuse a value whose type would end the scheduler when it reads the request."""
    if given is None:
        return
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(given), type=type(given))
    except (msgspec.MsgspecError, TypeError, OverflowError, UnicodeError) as error:
        raise Refused(f"{name}: {error}") from None
