"""`llm42 serve`: SGLang's server, with deterministic requests."""

from typing import Annotated

import typer

from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.output import say
from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.errors import UserError

# Flags that are not ours are passed on to SGLang.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
_MODEL_FLAGS = ("--model-path", "--model", "--config")
_DEFAULT = Config()

PageSize = Annotated[int, typer.Option("--llm42-page", help="T: tokens per page (16, 32, 64).")]
GroupSize = Annotated[
    int, typer.Option("--llm42-group", help="G: slots per canonical pass (1, 2, 4 ... 32).")
]
WaitSteps = Annotated[
    int,
    typer.Option(
        "--llm42-wait",
        help="How many decode steps a full page may wait so that pages share a pass (0 to T).",
    ),
]
RunAhead = Annotated[int | None, typer.Option("--llm42-run-ahead", hidden=True)]
Tune = Annotated[bool, typer.Option("--llm42-tune", hidden=True)]
Default = Annotated[
    bool, typer.Option("--llm42-default", help="Make requests deterministic unless they object.")
]
Verify = Annotated[
    str,
    typer.Option(
        "--llm42-verify",
        help="uncertified: verify tokens of decode steps of uncertified sizes; always: all tokens.",
    ),
]
AuditEvery = Annotated[
    int, typer.Option("--llm42-audit", help="Run one of this many output pages again, to compare.")
]
WeightsDigest = Annotated[
    str,
    typer.Option(
        "--llm42-weights-digest",
        help="content: hash the weights at the start and after updates; version: believe SGLang's"
        " --weight-version and the weight_version of updates.",
    ),
]
Recheck = Annotated[
    bool,
    typer.Option(
        "--llm42-recheck/--no-llm42-recheck",
        help="Run a small part of certification again after a weight update.",
    ),
]
MaxN = Annotated[
    int, typer.Option("--llm42-max-n", help="Most samples (n) that a request may ask for.")
]
SigningKey = Annotated[
    str | None,
    typer.Option(
        "--llm42-signing-key", help="Sign receipts with the key in this file (llm42 key makes one)."
    ),
]

Drafts = Annotated[
    str,
    typer.Option(
        "--llm42-drafts",
        help="ngram: what stands earlier in a request's own text proposes tokens, which passes"
        " verify; off: decode steps alone propose. The answers are the same.",
    ),
]


def serve(
    context: typer.Context,
    page: PageSize = _DEFAULT.page,
    group: GroupSize = _DEFAULT.group,
    wait: WaitSteps = _DEFAULT.wait,
    run_ahead: RunAhead = None,
    tune: Tune = False,
    default: Default = _DEFAULT.default,
    verify: Verify = _DEFAULT.verify,
    audit: AuditEvery = _DEFAULT.audit,
    weights_digest: WeightsDigest = _DEFAULT.weights_digest,
    recheck: Recheck = _DEFAULT.recheck,
    max_n: MaxN = _DEFAULT.max_n,
    signing_key: SigningKey = _DEFAULT.signing_key,
    drafts: Drafts = _DEFAULT.drafts,
) -> None:
    """Serve a model, with deterministic and ordinary requests.

    Every flag of `sglang serve` works too. Without a model the embedded one is served.
    """
    if tune:
        raise UserError("--llm42-tune is gone; `llm42 bench passes` measures and recommends flags")
    if run_ahead is not None:  # in 0.3.0 a page waited until either was used up
        wait = min(wait, run_ahead)
        say(f"--llm42-run-ahead is a part of --llm42-wait now; write --llm42-wait {wait}")
    try:
        config = Config(
            page=page,
            group=group,
            default=default,
            wait=wait,
            verify=verify,
            audit=audit,
            weights_digest=weights_digest,
            recheck=recheck,
            max_n=max_n,
            signing_key=signing_key,
            drafts=drafts,
        )
    except ConfigError as error:
        raise UserError(str(error)) from None
    _serve(config, list(context.args))


def _serve(config: Config, argv: list[str]) -> None:
    """Serve until the process is told to stop. argv: flags of `sglang serve`."""
    from llm42_sglang.engine.start import launch

    try:
        launch.require_pinned_sglang()
        if not any(flag.partition("=")[0] in _MODEL_FLAGS for flag in argv):
            argv += ["--model-path", str(ensure_default_model(say))]
        launch.serve(config, argv)
    except launch.LaunchError as error:
        raise UserError(str(error)) from None
    except launch.RefusedInScheduler:
        raise typer.Exit(1) from None
