"""Start a deterministic server or Engine. What can be refused is refused before anything starts."""

import contextlib
import io
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.engine import settings
from llm42_sglang.engine.errors import EngineError
from llm42_sglang.engine.names import PINNED_SGLANG, REFUSED_TO_START
from llm42_sglang.engine.signing import load_signer


class LaunchError(ValueError):
    """The server cannot be started as asked. The message is one line: what is wrong, what to do."""


class RefusedInScheduler(RuntimeError):
    """The scheduler process refused to serve. It has printed the reason, one line, on stderr."""

    @staticmethod
    def is_why(error: BaseException) -> bool:
        """Whether a start has failed for this reason. error: what SGLang has raised."""
        return f"exit code: {REFUSED_TO_START})" in str(error)


def require_pinned_sglang() -> None:
    """Raise LaunchError unless the installed SGLang is the version that llm42 was written for."""
    try:
        installed = version("sglang")
    except PackageNotFoundError:
        installed = "no version"
    if installed != PINNED_SGLANG:
        raise LaunchError(
            f"llm42 needs sglang {PINNED_SGLANG}, and {installed} is installed; "
            f"run: pip install sglang=={PINNED_SGLANG}"
        )


def serve(config: Config, argv: list[str]) -> None:
    """Serve until the process is told to stop. argv: flags of `sglang serve`.

    Raises LaunchError before anything has started, and RefusedInScheduler if certification or a
    check in the scheduler process fails.
    """
    require_pinned_sglang()
    server_args = prepare(config, argv)

    from sglang.launch_server import run_server
    from sglang.srt.utils import kill_process_tree

    try:
        run_server(server_args)
    except RuntimeError as error:
        if RefusedInScheduler.is_why(error):
            raise RefusedInScheduler from None
        raise
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def prepare(config: Config, argv: list[str]):
    """Register the hooks in this process, and return the checked server arguments.

    Raises LaunchError.
    """
    enter(config)
    flags = ["--page-size", str(config.page)]
    return _supported(_parse([*_without_conflicts(argv, config), *flags]), config)


def enter(config: Config) -> None:
    """Publish the configuration and register the hooks in this process. Raises LaunchError."""
    from llm42_sglang.engine.seams import signatures
    from llm42_sglang.engine.seams.check import check
    from llm42_sglang.engine.seams.table import RELIED_UPON

    try:
        if config.signing_key is not None:
            load_signer(config.signing_key)  # before anything starts
        check(RELIED_UPON, signatures.read())  # the plugin checks what is hooked too
        settings.publish(config)
        _load_plugin()
    except (ConfigError, EngineError) as error:
        raise LaunchError(str(error)) from None


def arguments_of(config: Config, **arguments: Any):
    """Return the checked server arguments of a call of `Engine`. Raises LaunchError."""
    from sglang.srt.server_args import ServerArgs

    if arguments.get("page_size") not in (None, config.page):
        raise LaunchError("use llm42_page instead of page_size: the two are one setting")
    if arguments.get("nnodes", 1) != 1:
        raise LaunchError("several nodes are not supported with Engine; use `llm42 serve`")
    try:
        server_args = ServerArgs(**arguments | {"page_size": config.page})
    except TypeError as error:  # it names the argument
        raise LaunchError(str(error)) from None
    with _in_one_line():
        server_args.resolve_once()
    return _supported(server_args, config)


def _supported(server_args: Any, config: Config):
    """Return the server arguments. Raises LaunchError if one of them is refused."""
    from llm42_sglang.engine.start.limits import require_supported

    try:
        require_supported(server_args, config)
    except EngineError as error:
        raise LaunchError(str(error)) from None
    with _in_one_line():
        server_args.check_server_args()  # SGLang does so too, but after it has begun to start
    return server_args


def _load_plugin() -> None:
    """Have SGLang load its plugins. Raises LaunchError if ours is not among them."""
    from sglang.srt.plugins import load_plugins

    from llm42_sglang.engine import hooks

    try:
        load_plugins()
    except SystemExit as error:  # the plugin's, with one line
        raise LaunchError(str(error.code).removeprefix("llm42: ")) from None
    if not hooks.registered():
        raise LaunchError(
            "SGLang did not load the llm42 plugin; unset SGLANG_PLUGINS or add llm42 to it, and "
            "check that llm42-sglang is installed (pip show llm42-sglang)"
        )
    hooks.require_live()


def _without_conflicts(argv: list[str], config: Config) -> list[str]:
    """Return `argv`. Raises LaunchError if it has another page size than T."""
    for i, flag in enumerate(argv):
        name, _, value = flag.partition("=")
        if name == "--page-size" and (value or "".join(argv[i + 1 : i + 2])) != str(config.page):
            raise LaunchError("use --llm42-page instead of --page-size: the two are one setting")
    return argv


def _parse(argv: list[str]):
    """Parse flags as SGLang does. Raises LaunchError with the one line of SGLang's error."""
    from sglang.srt.server_args import prepare_server_args

    stderr = io.StringIO()
    try:
        with _in_one_line():
            with contextlib.redirect_stderr(stderr):
                server_args = prepare_server_args(argv)
            server_args.resolve_once()
    except SystemExit as error:
        if error.code == 0:
            raise
        last = stderr.getvalue().strip().splitlines()[-1:]
        message = "".join(last).partition("error: ")[2]
        raise LaunchError(message or "malformed flags; see sglang serve --help") from None
    return server_args


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Raise LaunchError with the first line of what SGLang says inside the block."""
    try:
        yield
    except (ValueError, OSError, AssertionError) as error:
        first = str(error).strip().splitlines()[:1]
        raise LaunchError("".join(first) or type(error).__name__) from None
