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
from llm42_sglang.repro.golden import GoldenFile, RecordedCase, save_golden
from llm42_sglang.repro.suite import load_suite


@judging
def record(
    suite: Annotated[Path, typer.Argument(help="YAML or JSONL: id, prompt or messages, sampling.")],
    url: Url,
    out: Annotated[Path, typer.Option("--out", help="The golden file to write.")],
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
    require_writable(out)
    with connect(url, api, model, api_key) as endpoint:
        with bar("recording", len(cases)) as advance:
            observations = observe(endpoint, cases, CONDITIONS["alone"], 1, advance)
        if endpoint.ours:
            _require_verified(observations)
        else:
            say("the endpoint gives no receipts: a check will find differences, but pass no case")
        golden = GoldenFile(
            model=endpoint.model,
            fingerprint=endpoint.fingerprint,
            cases=[
                RecordedCase(**dict(case), output=observation.answer.output)
                for case, observation in zip(cases, observations, strict=True)
            ],
        )
        if receipts is not None and endpoint.ours:
            _save_receipts(receipts, observations, golden)
    save_golden(golden, out)
    print(f"{len(cases)} cases recorded in {out}")


def _require_verified(observations: list[Observation]) -> None:
    """Raise UserError if an answer is not verified: later answers are to be measured by it."""
    for observation in observations:
        if not observation.answer.output.verified:
            raise UserError(f"case {observation.case_id}: the server does not verify its answer")


def _save_receipts(folder: Path, observations: list[Observation], golden: GoldenFile) -> None:
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
        save_exchange(observation.answer, golden.fingerprint, folder / f"{name}.json")
