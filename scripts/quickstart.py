"""Start a server with the default model, and show what determinism changes.

The same prompts run alone and under load: do they get the same tokens? The exit status is 0 if no
deterministic answer diverged and every one was verified, else 1.

scripts/quickstart prepares the environment and runs this file.
"""

import argparse
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.errors import UserError, printable
from llm42_sglang.repro.conditions import CONDITIONS, observe, question
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.output import first_difference
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import Sampling
from llm42_sglang.repro.wire import Answer

SERVER_ARGS = ["--max-total-tokens", "40000"]  # a small KV pool, which is enough here
NEW_TOKENS = 96
IN_FLIGHT = 2 * len(PROMPTS)  # half of them are ordinary requests that make the load
DESCRIPTIONS = {  # by name of the condition
    "alone": f"{len(PROMPTS)} prompts, one after the other",
    "load": f"the same prompts, {IN_FLIGHT} requests in flight",
}
QUIET_S = 10  # seconds between two lines of progress, where there is no terminal

console = Console(highlight=False)


class Comparison(NamedTuple):
    """One prompt, with its answers alone and under load."""

    prompt: str
    alone: Answer
    under_load: Answer

    @property
    def diverged_at(self) -> int | None:
        """The index of the first token that differs, counted from 0; None if none does."""
        return first_difference(self.alone.output.ids, self.under_load.output.ids)

    @property
    def verified(self) -> bool:
        """Whether the receipts say that both answers are verified."""
        return self.alone.output.verified and self.under_load.output.verified

    def total(self, counter: str) -> int:
        """The sum of a receipt counter, such as `rollbacks`, over both answers."""
        return self.alone.counter(counter) + self.under_load.counter(counter)


def main() -> int:
    """Parse the command line, run everything, and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the server running")
    parser.add_argument("--port", type=int, help="port of the server; a free one by default")
    options = parser.parse_args()
    leave_on_signals()
    try:
        return run(options.port, options.serve)
    except UserError as error:
        console.print(
            f"llm42: error: {printable(str(error))}", style="red", markup=False, soft_wrap=True
        )
        return 1
    except KeyboardInterrupt:
        return 130


def run(port: int | None, serve: bool) -> int:
    """Get the model, start the server, demonstrate. Returns the exit status.

    port: of the server; None takes a free one. serve: whether to serve until Ctrl-C afterwards.
    """
    ensure_default_model(say)
    log_path = cache_dir() / "logs" / "quickstart.log"
    say(f"starting the server, which takes about a minute; its log is {log_path}")
    with console.status("starting") as status:
        report = StartReport(status.update)
        server = ServerProcess(SERVER_ARGS, log_path=log_path, port=port, progress=report)
        server.start()
    try:
        say(f"the server is ready at {server.url}")
        success = demonstrate(server.url)
        if serve and success:
            _print_curl(server.url)
            wait_for_the_end(server)
        elif success:
            say("to leave a server running:  scripts/quickstart --serve --port 30000")
            say("then, in another terminal, as often as you like:")
            _print_curl("http://127.0.0.1:30000")
    finally:
        say("stopping the server")
        server.stop()
    return 0 if success else 1


def demonstrate(url: str) -> bool:
    """Compare ordinary and deterministic requests, and print both tables.

    Returns whether all deterministic answers were verified and none diverged. Raises UserError if
    the server refuses a request or stops answering.
    """
    say(f"greedy, {NEW_TOKENS} new tokens each; the prefix cache is emptied before each run")
    ordinary = compare(url, deterministic=False)
    console.print(ordinary_table(ordinary))
    if not any(_diverged(ordinary)):
        say("no ordinary request diverged this time, by luck; another run may differ")
    deterministic = compare(url, deterministic=True)
    console.print(deterministic_table(deterministic))
    diverged = sum(_diverged(deterministic))
    unverified = sum(not comparison.verified for comparison in deterministic)
    say(f"ordinary:      {sum(_diverged(ordinary))} of {len(ordinary)} diverged under load")
    say(f"deterministic: {diverged} of {len(deterministic)} diverged, {unverified} not verified")
    return diverged == unverified == 0


def compare(url: str, deterministic: bool) -> list[Comparison]:
    """Run PROMPTS one after the other, then all at once beside ordinary requests.

    Returns one comparison for each prompt. Raises UserError if the server refuses a request or
    stops answering.
    """
    sampling = Sampling(max_tokens=NEW_TOKENS, ignore_eos=True)
    cases = [question(prompt, prompt, True, sampling) for prompt in PROMPTS]
    answers = []
    with connect(url) as endpoint:
        for name, description in DESCRIPTIONS.items():
            say(f"{'deterministic' if deterministic else 'ordinary'} requests: {description}")
            condition = CONDITIONS[name]
            observations = observe(
                endpoint, cases, condition, IN_FLIGHT, _counting(), deterministic
            )
            answers.append([observation.answer for observation in observations])
    return [Comparison(*row) for row in zip(PROMPTS, *answers, strict=True)]


def _counting() -> Callable[[], None]:
    """Return a function to call at each answer. It prints the progress four times in all."""
    answered, began_s = count(1), time.monotonic()

    def advance() -> None:
        number = next(answered)
        if number % (len(PROMPTS) // 4) == 0:
            seconds = time.monotonic() - began_s
            say(f"  {number} of {len(PROMPTS)} answered after {seconds:.0f} s")

    return advance


def ordinary_table(comparisons: list[Comparison]) -> Table:
    """Return a table with the first token of each prompt that differs under load."""
    table = Table(title="Ordinary requests: alone and under load")
    table.add_column("prompt", overflow="ellipsis", no_wrap=True, max_width=44)
    table.add_column("diverged")
    for comparison in comparisons:
        table.add_row(comparison.prompt, _verdict(comparison))
    return table


def deterministic_table(comparisons: list[Comparison]) -> Table:
    """Return a table like `ordinary_table`, with the counts of the receipts.

    The counts are sums over both answers to a prompt. `in steps` counts the tokens that canonical
    steps committed, and `rolled back` the candidates that were dropped.
    """
    counters = {
        "canonical_steps": "in\nsteps",
        "verify_passes": "passes",
        "rollbacks": "roll-\nbacks",
        "tokens_rolled_back": "rolled\nback",
    }
    table = Table(title="Deterministic requests: alone and under load", show_footer=True)
    table.add_column("prompt", "total", overflow="ellipsis", no_wrap=True, max_width=20)
    table.add_column("diverged", no_wrap=True)
    table.add_column("verified", no_wrap=True)
    for counter, header in counters.items():
        footer = str(sum(comparison.total(counter) for comparison in comparisons))
        table.add_column(header, footer, justify="right", no_wrap=True)
    for comparison in comparisons:
        counts = [str(comparison.total(counter)) for counter in counters]
        verified = "yes" if comparison.verified else "[red]no[/red]"
        table.add_row(comparison.prompt, _verdict(comparison), verified, *counts)
    return table


def wait_for_the_end(server: ServerProcess) -> None:
    """Return at Ctrl-C. Raises UserError if the server ends by itself."""
    say("the server is running; Ctrl-C stops it")
    try:
        while server.alive:
            time.sleep(1)
    except KeyboardInterrupt:
        return
    raise UserError(f"the server ended by itself; the reason is in {server.log_path}")


class StartReport:
    """Shows how the start goes on: a status line on a terminal, else a line now and then."""

    def __init__(self, update_status) -> None:
        self._update_status = update_status
        self._said_s = 0.0

    def __call__(self, seconds: float, line: str) -> None:
        if console.is_terminal:
            self._update_status(f"{seconds:.0f} s  [dim]{escape(line[:90])}[/dim]")
        elif seconds - self._said_s >= QUIET_S:
            self._said_s = seconds
            say(f"  {seconds:.0f} s  {line[:110]}")


def say(message: str) -> None:
    """Print a line of progress."""
    console.print(f"llm42: {message}", markup=False, soft_wrap=True)


def _diverged(comparisons: list[Comparison]) -> list[bool]:
    return [comparison.diverged_at is not None for comparison in comparisons]


def _verdict(comparison: Comparison) -> str:
    index = comparison.diverged_at
    return "[green]no[/green]" if index is None else f"[red]token {index}[/red]"


def _print_curl(url: str) -> None:
    body = (
        '{"text": "The moon is", "sampling_params": {"temperature": 0, "max_new_tokens": 32, '
        '"deterministic": true}}'
    )
    command = f"curl -s {url}/generate -H 'Content-Type: application/json' -d '{body}'"
    console.print(command, style="bold", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
