"""`llm42 record`: write a server's answers to a suite into a golden file."""

import re
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import ApiName, Key, ModelName, Url
from llm42_sglang.cli.output import bar, require_writable, say
from llm42_sglang.errors import UserError, judging
from llm42_sglang.repro.conditions import CONDITIONS, Observation, observe
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.exchange import save_exchange
from llm42_sglang.repro.golden import Block, GoldenFile, load_golden, save_golden
from llm42_sglang.repro.suite import Case, load_suite
from llm42_sglang.repro.wire import path_of, require_fields

MOST_NAMED = 3  # cases that an error lists


@judging
def record(
    suite: Annotated[Path, typer.Argument(help="YAML or JSONL: id, prompt or messages, sampling.")],
    url: Url,
    out: Annotated[Path, typer.Option("--out", help="The golden file to write.")],
    add: Annotated[
        bool,
        typer.Option("--add", help="Keep the file's answers under other fingerprints."),
    ] = False,
    receipts: Annotated[
        Path | None,
        typer.Option("--receipts", help="A folder for receipts, which llm42 replay reads."),
    ] = None,
    api: ApiName = None,
    model: ModelName = None,
    api_key: Key = None,
) -> None:
    """Ask each case of a suite alone and record its answer. Status 2: bad input or no endpoint."""
    cases = load_suite(suite).cases
    before = load_golden(out) if add and out.exists() else None
    if before is not None:
        _require_same(cases, before.cases, suite, out)
    require_writable(out)
    with connect(url, api, model, api_key) as endpoint:
        for case in cases:
            require_fields(case, path_of(case, endpoint.api))
        with bar("recording", len(cases)) as advance:
            observations = observe(endpoint, cases, CONDITIONS["alone"], 1, advance)
        if endpoint.ours:
            _require_verified(observations)
        else:
            say("the endpoint gives no receipts: a check will find differences, but pass no case")
        outputs = {o.case_id: o.answer.output for o in observations}
        block = Block(model=endpoint.model, fingerprint=endpoint.fingerprint, outputs=outputs)
        if receipts is not None and endpoint.ours:
            _save_receipts(receipts, observations, block)
    golden = GoldenFile(cases=cases, blocks=[block])
    save_golden(before.with_block(block, cases) if before else golden, out)
    print(f"{len(cases)} cases recorded in {out}")


def _require_same(cases: list[Case], recorded: list[Case], suite: Path, golden: Path) -> None:
    """Raise UserError unless the suite asks what the golden file's answers are to."""
    new, old = ({case.id: case for case in side} for side in (cases, recorded))
    differing = [
        *(f"{name} is new" for name in new.keys() - old.keys()),
        *(f"{name} is missing" for name in old.keys() - new.keys()),
        *(f"{n} has changed" for n in new.keys() & old.keys() if not new[n].asks_the_same(old[n])),
    ]
    if differing:
        what = ", ".join(sorted(differing)[:MOST_NAMED]) + ", ..." * (len(differing) > MOST_NAMED)
        remedy = "record it without --add, and then add each other machine again"
        raise UserError(
            f"{suite} does not ask what {golden} holds the answers to ({what}): {remedy}"
        )


def _require_verified(observations: list[Observation]) -> None:
    """Raise UserError if an answer is not verified: later answers are to be measured by it."""
    for observation in observations:
        if not observation.answer.output.verified:
            raise UserError(f"case {observation.case_id}: the server does not verify its answer")


def _save_receipts(folder: Path, observations: list[Observation], block: Block) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from None
    names: set[str] = set()
    for observation in observations:
        # 50 characters of up to 4 bytes: a file name has at most 255 bytes.
        name = re.sub(r"[^\w.-]", "_", observation.case_id)[:50]
        while name in names:
            name += "_"
        names.add(name)
        save_exchange(observation.answer, block.fingerprint, folder / f"{name}.json")
