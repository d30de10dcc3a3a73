"""Options that several benchmarks share."""

from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.errors import UserError

# What is left over are flags of the servers: --llm42-* ours, all others everybody's.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}

Out = Annotated[Path | None, typer.Option(help="Write the JSON here as well.")]
Model = Annotated[Path | None, typer.Option(help="Folder of a model; default: the embedded one.")]
Requests = Annotated[int, typer.Option(min=1, help="Requests of each measurement.")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]
Prompt = Annotated[str, typer.Option("--prompt-tokens", help="N, or N-M: uniform between them.")]
New = Annotated[str, typer.Option("--new-tokens", help="N or N-M.")]
Rounds = Annotated[int, typer.Option(min=1, help="Each loads every server.")]
Seed = Annotated[int, typer.Option(help="Of the prompts.")]
Shares = Annotated[str, typer.Option(help="Deterministic requests, in percent, with commas.")]


def require_full_loop(requests: int, in_flight: int) -> None:
    """Raises UserError if a closed loop would hardly ever hold so many requests."""
    if requests <= in_flight:
        raise UserError(
            f"--requests {requests} is too few for a closed loop: take at least {3 * in_flight}, "
            f"three times --in-flight"
        )


def numbers(flag: str, text: str, least: float, most: float) -> list[float]:
    """A list with commas. Raises UserError."""
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or not all(least <= number <= most for number in found):
        raise UserError(f"{flag} takes numbers from {least:g} to {most:g} with commas, not {text}")
    return list(dict.fromkeys(found))
