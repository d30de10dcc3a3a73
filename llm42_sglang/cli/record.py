"""`llm42 record`: write down what a server answers to a suite."""

import re
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import ApiName, Key, Model, Url
from llm42_sglang.cli.output import bar, require_writable, say
from llm42_sglang.errors import UserError, judging
from llm42_sglang.repro.conditions import CONDITIONS, Observation, observe
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.golden import Golden, Recorded, save_golden
from llm42_sglang.repro.replay import save_exchange
from llm42_sglang.repro.suite import Case, load_suite


@judging
def record(
    suite: Annotated[Path, typer.Argument(help="YAML or JSONL: id, prompt or messages, sampling.")],
    url: Url,
    out: Annotated[Path, typer.Option("--out", help="The golden file.")],
    receipts: Annotated[
        Path | None, typer.Option("--receipts", help="Folder for a file a case, for llm42 replay.")
    ] = None,
    api: ApiName = None,
    model: Model = None,
    api_key: Key = None,
) -> None:
    """Record a suite's answers, each asked for alone. Status 2 for bad input or no endpoint."""
    cases = load_suite(suite).cases
    require_writable(out)
    with connect(url, api, model, api_key) as endpoint:
        with bar("recording", len(cases)) as advance:
            seen = observe(endpoint, cases, CONDITIONS["alone"], 1, advance)
        answers = {one.case_id: one for one in seen}
        if endpoint.ours:
            _require_verified(seen)
        else:
            say("the endpoint gives no receipts: a check can find differences, not verify answers")
        golden = Golden(
            model=endpoint.model,
            fingerprint=endpoint.fingerprint,
            cases=[recorded(case, answers[case.id]) for case in cases],
        )
        if receipts is not None and endpoint.ours:
            _save_receipts(receipts, seen, golden)
    save_golden(golden, out)
    print(f"{len(cases)} cases recorded in {out}")


def recorded(case: Case, seen: Observation) -> Recorded:
    """The case with its answer."""
    return Recorded(
        **{name: getattr(case, name) for name in Case.model_fields}, output=seen.answer.output
    )


def _require_verified(seen: list[Observation]) -> None:
    """What nobody vouches for is not what others are to be measured by."""
    for one in seen:
        if not one.answer.output.verified:
            raise UserError(f"case {one.case_id}: the server does not verify its answer")


def _save_receipts(folder: Path, seen: list[Observation], golden: Golden) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from None
    used: set[str] = set()
    for one in seen:
        name = re.sub(r"[^\w.-]", "_", one.case_id)[:50]  # of up to 4 bytes; 255 is a limit
        while name in used:
            name += "_"
        used.add(name)
        save_exchange(one.answer, golden.fingerprint, folder / f"{name}.json")
