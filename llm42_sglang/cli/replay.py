"""`llm42 replay`: is a receipt authentic?"""

from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import Key, SavedAnswer, SignedWith, Url
from llm42_sglang.errors import judging, one_line
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.exchange import load_exchange
from llm42_sglang.repro.judge import CheckVerdict
from llm42_sglang.repro.proof import PublicKey
from llm42_sglang.repro.replay import WORDS, forgery, replay_segment
from llm42_sglang.repro.replay import replay as execute_again


@judging
def replay(
    receipt: SavedAnswer,
    url: Url,
    api_key: Key = None,
    segment: Annotated[
        int | None,
        typer.Option(help="Only this segment, from 1: of an answer whose weights were updated."),
    ] = None,
    public_key: SignedWith = None,
) -> None:
    """Check a receipt's hashes, execute its request again, and compare answers and receipts.

    Status 0: authentic. Status 1: not authentic, or not known. Status 2: bad input or no endpoint.
    """
    exchange, claimed = load_exchange(receipt)
    key = PublicKey(public_key) if public_key is not None else None
    with connect(url, api_key=api_key) as endpoint:
        if found := forgery(endpoint, exchange, key):
            result = found
        elif segment is None:
            result = execute_again(endpoint, exchange, claimed)
        else:
            result = replay_segment(endpoint, exchange, claimed, segment)
    print(f"{WORDS[result.verdict]}: {one_line(result.reason)}")
    if result.verdict is not CheckVerdict.PASSED:
        raise typer.Exit(1)
