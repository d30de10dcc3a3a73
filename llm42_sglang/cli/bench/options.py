"""Options that several benchmarks share, and the workload they describe."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import workload
from llm42_sglang.cli.bench.workload import Lengths, Mix, Request
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.output import say
from llm42_sglang.tools import drawn

# What is left over are flags of the servers: --llm42-* ours, all others everybody's.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}

Out = Annotated[Path | None, typer.Option(help="Write the JSON here as well.")]
Plot = Annotated[Path | None, typer.Option(help="Draw a PNG here.", callback=drawn("matplotlib"))]
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


@dataclass(frozen=True)
class Source:
    """Where requests come from."""

    mix: Mix
    model: Path
    seed: int

    @classmethod
    def of(cls, prompt: str, new: str, model: Path | None, seed: int) -> "Source":
        """Of the command's options; the model is the embedded one if none is named."""
        mix = Mix(Lengths.parse(prompt), Lengths.parse(new))
        return cls(mix, model or ensure_default_model(say), seed)

    def requests(self, count: int, round_number: int = 0) -> list[Request]:
        """Ordinary ones; every round has prompts of its own."""
        seed = 1000 * self.seed + round_number
        return workload.spans(self._text, self.mix, count, seed)

    def describe(self) -> dict[str, Any]:
        """For the line above the table."""
        return {
            "model": self.model.name,
            "text": "Python's language reference",
            "prompt_tokens": str(self.mix.prompt),
            "new_tokens": str(self.mix.new),
            "seed": self.seed,
        }

    @cached_property
    def _text(self) -> Sequence[int]:
        from tokenizers import Tokenizer

        file = self.model / "tokenizer.json"
        if not file.is_file():
            raise UserError(f"{file} is missing; --model names a folder that has one")
        return workload.english(Tokenizer.from_file(str(file)))
