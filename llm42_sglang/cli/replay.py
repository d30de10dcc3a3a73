"""`llm42 replay`: is a receipt authentic?"""

from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import Key, Url
from llm42_sglang.errors import judging, printable
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.judge import Verdict
from llm42_sglang.repro.replay import load_saved
from llm42_sglang.repro.replay import replay as execute_again

WORDS = {
    Verdict.PASSED: "AUTHENTIC",
    Verdict.FAILED: "NOT AUTHENTIC",
    Verdict.UNKNOWN: "UNKNOWN",
}


@judging
def replay(
    receipt: Annotated[
        Path,
        typer.Argument(help='JSON {"request": ..., "response": ...}, or of record --receipts.'),
    ],
    url: Url,
    api_key: Key = None,
) -> None:
    """Execute a response's request again and compare it, receipt and all.

    Status 0: authentic; 1: it is not, or nobody can tell; 2: bad input or no endpoint.
    """
    saved, claimed = load_saved(receipt)
    with connect(url, api_key=api_key) as endpoint:
        replayed = execute_again(endpoint, saved, claimed)
    print(f"{WORDS[replayed.verdict]}: {printable(replayed.reason)}")
    if replayed.verdict is not Verdict.PASSED:
        raise typer.Exit(1)
