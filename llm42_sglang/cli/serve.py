"""`llm42 serve`: SGLang's server, with deterministic requests."""

from typing import Annotated

import typer

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.progress import say
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
        int, typer.Option("--llm42-group", help="G: slots per canonical pass (1, 2, 4 ... 32).")
    ] = _DEFAULT.group,
    wait: Annotated[
        int,
        typer.Option("--llm42-wait", help="Decode steps a due page waits for company, at most."),
    ] = _DEFAULT.wait,
    run_ahead: Annotated[
        int,
        typer.Option(
            "--llm42-run-ahead", help="Tokens a request decodes past its due page, at most (0..T)."
        ),
    ] = _DEFAULT.run_ahead,
    tune: Annotated[
        bool,
        typer.Option("--llm42-tune", help="Measure at start-up, choose group, wait and run-ahead."),
    ] = _DEFAULT.tune,
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
            page=page,
            group=group,
            default=default,
            wait=wait,
            run_ahead=run_ahead,
            tune=tune,
        )
        launch.require_pinned_sglang()
        if not any(flag.partition("=")[0] in _MODEL_FLAGS for flag in argv):
            argv += ["--model-path", str(ensure_default_model(say))]
        launch.serve(config, argv)
    except (ConfigError, launch.LaunchError) as error:
        raise UserError(str(error)) from None
    except launch.RefusedInScheduler:
        raise typer.Exit(1) from None
