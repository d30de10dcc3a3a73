"""SGLang's Engine, which serves the program that starts it, with deterministic requests.

Settings and hooks belong to a process, not to an object. So a process has one Engine at a time. The
next one may have other settings.
"""

import atexit
import gc
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any

import psutil
import zmq
from sglang.srt.entrypoints import engine as sglangs
from sglang.srt.utils import kill_process_tree

from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.engine import hooks, plugin, settings
from llm42_sglang.engine.errors import EngineError
from llm42_sglang.engine.start import launch

PREFIX = "llm42_"  # of our arguments
FAILED = "a process of the Engine failed at its start; its log, above, says why"
_DIED = "died during initialization"  # in what SGLang raises then
REAP_S = 10  # how long processes that were killed may take to go

_serving: "Engine | None" = None  # this process's


class Engine(sglangs.Engine):
    """`sglang.Engine`, with requests that say `sampling_params={"deterministic": True}`.

        with Engine(model_path="...", llm42_page=32) as engine:
            answer = engine.generate("The moon is", {"temperature": 0, "deterministic": True})
            print(answer["text"], answer["meta_info"]["llm42"])

    A request that cannot be served as asked raises ValueError, as HTTP answers 400 or 503.
    """

    _sigquit: Any = None  # SGLang's handler of the signal, while `_fail` stands in for it
    _others_sockets: frozenset[int] = frozenset()  # contexts of zmq that were there before it

    def __init__(self, **arguments: Any):
        """Start the processes and certify the model.

        arguments: the flags of `llm42 serve` as names, such as llm42_page and tp_size.
        Raises LaunchError, a ValueError, for what is refused before anything starts. Raises
        RefusedInScheduler or another RuntimeError if a process fails; then none of them is left.
        """
        with _named_as_arguments():
            config, others = _divided(arguments)
            self._others_sockets = frozenset(map(id, _contexts()))
            self.server_args_class = partial(launch.arguments_of, config)
            self._serve(config, others)

    def _serve(self, config: Config, others: Mapping[str, Any]) -> None:
        """Start the processes. others: arguments of SGLang's Engine. Raises as the constructor."""
        global _serving
        with _start(config):
            try:
                super().__init__(**others)
                self._require_service()
            except BaseException:
                atexit.unregister(self.shutdown)
                raise
        _serving = self

    @classmethod
    def _launch_scheduler_processes(cls, *args: Any, **kwargs: Any) -> Any:
        """As SGLang's, which by now would kill this process when a child fails."""
        if threading.current_thread() is threading.main_thread():
            Engine._sigquit = signal.signal(signal.SIGQUIT, _fail)
        return super()._launch_scheduler_processes(*args, **kwargs)

    def shutdown(self) -> None:
        """As SGLang's. After it the process may have another Engine."""
        global _serving
        try:
            super().shutdown()
            _drop_sockets(self._others_sockets)
        finally:
            if _serving is self:
                _serving = None
                plugin.gate.begin(None)

    @property
    def fingerprint(self) -> str:
        """What all answers depend on. Raises EngineError if deterministic service has ended."""
        return self._proof["fingerprint"]

    @property
    def facts(self) -> Mapping[str, object]:
        """The facts that the fingerprint is a hash of. Raises EngineError as `fingerprint` does."""
        return self._proof["facts"]

    @property
    def certificate(self) -> Mapping[str, object]:
        """What certification has measured. Raises EngineError as `fingerprint` does."""
        return self._proof["certificate"]

    @property
    def _proof(self) -> Mapping[str, Any]:
        if _serving is not self:
            raise EngineError("this Engine has been shut down")
        self._require_service()
        return plugin.gate.proof

    def _require_service(self) -> None:
        if plugin.gate.problem is not None:
            raise EngineError(f"deterministic service is not available: {plugin.gate.problem}")


def _divided(arguments: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Return our settings and SGLang's arguments. Raises ConfigError or LaunchError."""
    ours = {name: value for name, value in arguments.items() if name.startswith(PREFIX)}
    known = [PREFIX + field.name for field in fields(Config)]
    for name in ours.keys() - {*known}:
        raise launch.LaunchError(f"{name} is not an argument; choose from {', '.join(known)}")
    config = Config(**{name.removeprefix(PREFIX): value for name, value in ours.items()})
    if config.weights_digest == "version":
        raise launch.LaunchError(
            "llm42_weights_digest version is not supported: SGLang's Engine cannot name the "
            "version of an update; leave it at content"
        )
    return config, {name: value for name, value in arguments.items() if name not in ours}


@contextmanager
def _named_as_arguments() -> Iterator[None]:
    """Write flags as arguments in what is raised: tp_size instead of --tp-size."""
    try:
        yield
    except (ConfigError, launch.LaunchError) as error:
        raise launch.LaunchError(_as_arguments(str(error))) from None
    except launch.RefusedInScheduler as error:
        raise launch.RefusedInScheduler(_as_arguments(str(error))) from None


def _as_arguments(text: str) -> str:
    return re.sub(r"--([a-z][a-z0-9-]*)", lambda flag: flag[1].replace("-", "_"), text)


@contextmanager
def _start(config: Config) -> Iterator[None]:
    """Start an Engine inside the block. If that fails, the process is as it was before.

    Raises LaunchError, RefusedInScheduler, and what the block raises.
    """
    if _serving is not None:
        raise launch.LaunchError(
            "this process has an Engine of llm42_sglang already; call its shutdown() first"
        )
    with tempfile.NamedTemporaryFile("r") as reasons, _outliving_children():
        os.environ[settings.REASONS] = reasons.name
        try:
            _enter(config)
            yield
        except RuntimeError as error:
            if not launch.RefusedInScheduler.is_why(error):
                # SGLang sees that the process is gone, or the process has told us by its signal.
                if _DIED not in str(error):
                    raise
                raise RuntimeError(FAILED) from error
            raise launch.RefusedInScheduler(reasons.readline().strip() or str(error)) from None
        finally:
            # The processes have read it. SGLang's own Engine is an ordinary one from now on.
            settings.withdraw()
            del os.environ[settings.REASONS]


def _enter(config: Config) -> None:
    """Prepare this process. Raises LaunchError if it cannot have this Engine."""
    launch.require_pinned_sglang()
    launch.enter(config)
    if not plugin.gate.serving:
        raise launch.LaunchError(
            "SGLang has been used in this process without llm42; start the Engine of llm42_sglang "
            "before SGLang's own, or in another process"
        )
    plugin.gate.begin(config)


@contextmanager
def _outliving_children() -> Iterator[None]:
    """End the processes that a failed start leaves, and no others. A failing one does not end this
    process."""
    known, handler = psutil.Process().children(), signal.getsignal(signal.SIGQUIT)
    others_sockets = frozenset(map(id, _contexts()))
    try:
        yield
        if signal.getsignal(signal.SIGQUIT) is _fail:
            signal.signal(signal.SIGQUIT, Engine._sigquit)
    except BaseException:
        if in_main_thread := threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # others may fail too, now
        ours = [child for child in psutil.Process().children() if child not in known]
        for child in ours:
            kill_process_tree(child.pid)
        psutil.wait_procs(ours, REAP_S)
        _drop_sockets(others_sockets)
        if in_main_thread:
            signal.signal(signal.SIGQUIT, handler)
        if hooks.registered():
            plugin.gate.begin(None)
        raise


def _contexts() -> list[zmq.Context]:
    return [each for each in gc.get_objects() if isinstance(each, zmq.Context) and not each.closed]


def _drop_sockets(others: frozenset[int]) -> None:
    """Close the sockets to processes that are gone. others: ids of the contexts to keep.

    SGLang leaves them. A message that nobody will fetch would block this process when Python
    collects them.
    """
    for context in _contexts():
        if id(context) not in others:
            context.destroy(linger=0)


def _fail(number: int, frame: Any) -> None:
    """Handle the signal that a failing process sends to this one, while the Engine starts."""
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    raise RuntimeError(FAILED)
