"""`llm42 verify`: is a saved answer this server's? Its tokens are checked, not generated."""

import json
from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import Key, SavedAnswer, SignedWith, Url
from llm42_sglang.errors import judging, one_line
from llm42_sglang.repro.claims import verify as check_claims
from llm42_sglang.repro.claims import worst
from llm42_sglang.repro.documents import read_document
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.judge import CheckVerdict
from llm42_sglang.repro.proof import PublicKey
from llm42_sglang.repro.replay import WORDS


@judging
def verify(
    answer: SavedAnswer,
    url: Url,
    api_key: Key = None,
    public_key: SignedWith = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Check a saved answer at the price of a prefill: the server draws every token again.

    Of n samples each has a verdict, in a line of its own.

    Status 0: authentic. Status 1: not authentic, or not known. Status 2: bad input or no endpoint.
    """
    exchange = read_document(SavedExchange, answer)
    key = PublicKey(public_key) if public_key is not None else None
    with connect(url, api_key=api_key) as endpoint:
        results = check_claims(endpoint, exchange, key, answer)
    if as_json:
        print(json.dumps([result.as_dict() for result in results], indent=1))
    else:
        for number, result in enumerate(results):
            sample = f"sample {number}: " if len(results) > 1 else ""
            print(f"{sample}{WORDS[result.verdict]}: {one_line(result.reason)}")
    if worst(results) is not CheckVerdict.PASSED:
        raise typer.Exit(1)
