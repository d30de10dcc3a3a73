"""`llm42 serve`: SGLang's server, with deterministic requests."""

from typing import Annotated

import typer

from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.output import say
from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.errors import UserError

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
        typer.Option(
            "--llm42-wait",
            help="Decode steps a full page may wait so that several share a pass (0 to T).",
        ),
    ] = _DEFAULT.wait,
    run_ahead: Annotated[int | None, typer.Option("--llm42-run-ahead", hidden=True)] = None,
    tune: Annotated[bool, typer.Option("--llm42-tune", hidden=True)] = False,
    default: Annotated[
        bool, typer.Option("--llm42-default", help="Requests are deterministic unless they object.")
    ] = _DEFAULT.default,
    verify: Annotated[
        str,
        typer.Option(
            "--llm42-verify",
            help="uncertified: what steps of uncertified sizes propose; always: every token.",
        ),
    ] = _DEFAULT.verify,
    audit: Annotated[
        int,
        typer.Option(
            "--llm42-audit", help="Of so many pages of outputs one is run again, to compare."
        ),
    ] = _DEFAULT.audit,
    max_n: Annotated[
        int, typer.Option("--llm42-max-n", help="Most samples (n) that a request may ask for.")
    ] = _DEFAULT.max_n,
) -> None:
    """Serve a model, deterministic requests included.

    Takes every flag of `sglang serve` besides its own. Without a model: the embedded default one.
    """
    from llm42_sglang.engine.start import launch

    if tune:
        raise UserError("--llm42-tune is gone; `llm42 bench passes` measures and recommends flags")
    if run_ahead is not None:  # a flag of its own in 0.3: a page waited until either was used up
        wait = min(wait, run_ahead)
        say(f"--llm42-run-ahead goes away: it is a part of --llm42-wait; write --llm42-wait {wait}")
    argv = list(context.args)
    try:
        config = Config(
            page=page,
            group=group,
            default=default,
            wait=wait,
            verify=verify,
            audit=audit,
            max_n=max_n,
        )
        launch.require_pinned_sglang()
        if not any(flag.partition("=")[0] in _MODEL_FLAGS for flag in argv):
            argv += ["--model-path", str(ensure_default_model(say))]
        launch.serve(config, argv)
    except (ConfigError, launch.LaunchError) as error:
        raise UserError(str(error)) from None
    except launch.RefusedInScheduler:
        raise typer.Exit(1) from None
