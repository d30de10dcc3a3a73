"""Options that several benchmarks have."""

from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.errors import UserError

# Other flags are passed on: --llm42-* to `llm42 serve`, the rest to all servers.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}

Model = Annotated[Path | None, typer.Option(help="Folder of the model; default: the embedded one.")]
Requests = Annotated[int, typer.Option(min=1, help="Requests of each measurement.")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]
Prompt = Annotated[
    str, typer.Option("--prompt-tokens", help="Tokens of a prompt: N, or N-M, uniformly drawn.")
]
New = Annotated[str, typer.Option("--new-tokens", help="Tokens of an answer, likewise.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds, each of which loads every server.")]
Seed = Annotated[int, typer.Option(help="Seed of the prompts.")]
Shares = Annotated[str, typer.Option(help="Percents of deterministic requests, with commas.")]


def require_full_loop(requests: int, in_flight: int) -> None:
    """Raise UserError if there are too few requests to keep a closed loop full."""
    if requests <= in_flight:
        raise UserError(
            f"--requests {requests} is too few for a closed loop: take at least {3 * in_flight}, "
            f"three times --in-flight"
        )


def numbers(flag: str, text: str, least: float, most: float) -> list[float]:
    """The numbers of a list with commas. Raises UserError unless all are in range."""
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or not all(least <= value <= most for value in values):
        raise UserError(f"{flag} takes numbers from {least:g} to {most:g} with commas, not {text}")
    return list(dict.fromkeys(values))
