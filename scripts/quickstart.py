"""Start a server with the embedded model and show what determinism changes.

Run by scripts/quickstart, which prepares the environment first. Leaves with status 0 if, and only
if, no deterministic request diverged and every one of them was verified.
"""

import argparse
import sys
import time
from collections.abc import Callable
from itertools import count

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import ServerProcess, leave_on_signals
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.repro.conditions import CONDITIONS, observe, question
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.probe import Probed
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import Sampling

SERVER_ARGS = ["--max-total-tokens", "40000"]  # a small KV pool; the demonstration needs no more
SAMPLING = Sampling(max_tokens=96, ignore_eos=True)
IN_FLIGHT = 2 * len(PROMPTS)  # half of them are company
CALLS = {  # by name of the condition
    "alone": f"{len(PROMPTS)} prompts, one after the other",
    "load": f"the same prompts, {IN_FLIGHT} requests in flight",
}
QUIET_S = 10  # without a terminal: seconds between two signs of life

console = Console(highlight=False)


def main() -> int:
    """Parse the command line, run everything, return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the server running")
    parser.add_argument("--port", type=int, help="port of the server; a free one by default")
    options = parser.parse_args()
    leave_on_signals()
    try:
        return run(options.port, options.serve)
    except UserError as error:
        console.print(f"llm42: error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def run(port: int | None, serve: bool) -> int:
    """Model, server, demonstration; with `serve`, wait for Ctrl-C. Returns the exit status."""
    ensure_default_model(say)
    log_path = cache_dir() / "logs" / "quickstart.log"
    say(f"starting the server, usually about a minute; its log is {log_path}")
    with console.status("starting") as status:
        report = StartReport(status.update)
        server = ServerProcess(SERVER_ARGS, log_path=log_path, port=port, progress=report)
        server.start()
    try:
        say(f"the server is ready at {server.url}")
        good = demonstrate(server.url)
        if serve and good:
            _print_curl(server.url)
            wait_for_the_end(server)
        elif good:
            say("next, leave a server running:  scripts/quickstart --serve --port 30000")
            say("then, in another terminal, any number of times:")
            _print_curl("http://127.0.0.1:30000")
    finally:
        say("stopping the server")
        server.stop()
    return 0 if good else 1


def demonstrate(url: str) -> bool:
    """Both comparisons with their tables. Returns whether the deterministic one held."""
    new = f"{SAMPLING.max_tokens} new tokens each"
    say(f"greedy, {new}, prefix cache emptied before each measurement")
    ordinary = compare(url, deterministic=False)
    console.print(ordinary_table(ordinary))
    if not any(map(_diverged, ordinary)):
        say("no ordinary request diverged this time: luck, not a promise; a longer run may differ")
    deterministic = compare(url, deterministic=True)
    console.print(deterministic_table(deterministic))
    diverged = sum(map(_diverged, deterministic))
    unverified = len(deterministic) - sum(map(_verified, deterministic))
    say(f"ordinary:      {sum(map(_diverged, ordinary))} of {len(ordinary)} diverged under load")
    say(f"deterministic: {diverged} of {len(deterministic)} diverged, {unverified} not verified")
    return diverged == unverified == 0


def compare(url: str, deterministic: bool) -> list[Probed]:
    """PROMPTS one after the other, then all at once beside ordinary requests.

    Raises UserError if the server refuses a request or stops answering.
    """
    cases = [question(prompt, prompt, True, SAMPLING) for prompt in PROMPTS]
    kind = "deterministic" if deterministic else "ordinary"
    with connect(url) as endpoint:
        alone, loaded = (
            observe(
                *(endpoint, cases, CONDITIONS[name], IN_FLIGHT),
                _counting(f"{kind} requests: {call}"),
                deterministic,
            )
            for name, call in CALLS.items()
        )
    return [
        Probed(case, (before.answer,), (after.answer,))
        for case, before, after in zip(cases, alone, loaded, strict=True)
    ]


def _counting(title: str) -> Callable[[], None]:
    """Says what begins, and four times how far it is."""
    say(title)
    answered, began_s = count(1), time.monotonic()

    def advance() -> None:
        number = next(answered)
        if number % (len(PROMPTS) // 4) == 0:
            say(f"  {number} of {len(PROMPTS)} answered after {time.monotonic() - began_s:.0f} s")

    return advance


def ordinary_table(answers: list[Probed]) -> Table:
    """Prompt by prompt: the first token that differs between alone and under load."""
    table = Table(title="Ordinary requests: alone and under load")
    table.add_column("prompt", overflow="ellipsis", no_wrap=True, max_width=44)
    table.add_column("diverged")
    for one in answers:
        table.add_row(one.case.question, _verdict(one))
    return table


def deterministic_table(answers: list[Probed]) -> Table:
    """As `ordinary_table`, with what the receipts say; counts are over both runs of a
    prompt, `rolled back` counts tokens."""
    counters = {
        "verify_passes": "passes",
        "rollbacks": "rollbacks",
        "tokens_rolled_back": "rolled\nback",
    }
    table = Table(title="Deterministic requests: alone and under load", show_footer=True)
    table.add_column("prompt", "total", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("diverged", no_wrap=True)
    table.add_column("verified", no_wrap=True)
    for counter, header in counters.items():
        total = str(sum(_total(one, counter) for one in answers))
        table.add_column(header, total, justify="right", no_wrap=True)
    for one in answers:
        verified = "yes" if _verified(one) else "[red]no[/red]"
        counts = (str(_total(one, counter)) for counter in counters)
        table.add_row(one.case.question, _verdict(one), verified, *counts)
    return table


def wait_for_the_end(server: ServerProcess) -> None:
    """Return at Ctrl-C; UserError if the server ends by itself."""
    say("serving; Ctrl-C stops the server")
    try:
        while server.alive:
            time.sleep(1)
    except KeyboardInterrupt:
        return
    raise UserError(f"the server ended by itself; its log is {server.log_path}")


class StartReport:
    """Progress of the server's start: a status line on a terminal, else a line now and then."""

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
    """A line of progress."""
    console.print(f"llm42: {message}", markup=False, soft_wrap=True)


def _diverged(prompt: Probed) -> bool:
    return prompt.diverged_at != [None]


def _verified(prompt: Probed) -> bool:
    return all(answer.output.verified for answer in prompt.answers)


def _total(prompt: Probed, counter: str) -> int:
    return sum(answer.counter(counter) for answer in prompt.answers)


def _verdict(prompt: Probed) -> str:
    (index,) = prompt.diverged_at
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
