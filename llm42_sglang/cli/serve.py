"""`llm42 serve`: SGLang's server, with deterministic requests."""

import sys
from typing import Annotated

import typer

from llm42_sglang import platform
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.core.config import Config, ConfigError

# Flags that are not ours are SGLang's.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
_MODEL_FLAGS = ("--model-path", "--model", "--config")
_DEFAULT = Config()


def serve(
    context: typer.Context,
    page: Annotated[
        int, typer.Option("--llm42-page", help="T: tokens per page (16, 32, 64).")
    ] = _DEFAULT.page,
    group: Annotated[
        int | None,
        typer.Option(
            "--llm42-group",
            help="G: pages per canonical pass (1, 2, 4 ... 32); 8, and 1 on a plain CPU.",
        ),
    ] = None,
    default: Annotated[
        bool, typer.Option("--llm42-default", help="Requests are deterministic unless they object.")
    ] = _DEFAULT.default,
) -> None:
    """Serve a model, deterministic requests included.

    Takes every flag of `sglang serve` besides its own. Without a model: the embedded default one.
    """
    from llm42_sglang.engine import launch

    argv = list(context.args)
    try:
        config = Config(
            page=page, group=platform.default_group() if group is None else group, default=default
        )
        launch.require_pinned_sglang()
        if not any(flag.partition("=")[0] in _MODEL_FLAGS for flag in argv):
            argv += ["--model-path", str(ensure_default_model(_say))]
        launch.serve(config, argv)
    except (ConfigError, launch.LaunchError) as error:
        raise UserError(str(error)) from None
    except launch.RefusedInScheduler:
        raise typer.Exit(1) from None


def _say(message: str) -> None:
    print(f"llm42: {message}", file=sys.stderr)
