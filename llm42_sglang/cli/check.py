"""`llm42 check`: does a server still answer what was recorded?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from llm42_sglang.cli.endpoints import ApiName, InFlight, Key, Model, Url
from llm42_sglang.cli.output import Page, bar, cell, console, require_writable
from llm42_sglang.errors import UserError, judging, printable
from llm42_sglang.files import write_whole
from llm42_sglang.report.check import check_page
from llm42_sglang.repro.conditions import CONDITIONS, Condition, Observation, observe
from llm42_sglang.repro.endpoint import Endpoint, connect
from llm42_sglang.repro.golden import Golden, Recorded, load_golden, save_golden
from llm42_sglang.repro.judge import Checked, Verdict, judge, updated
from llm42_sglang.repro.junit import junit_xml

MARKS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.UNKNOWN: "yellow"}


@judging
def check(
    golden: Annotated[Path, typer.Argument(help="A file that `llm42 record` wrote.")],
    url: Url,
    update: Annotated[
        bool, typer.Option("--update", help="Record the new answers, if they are reproducible.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    report: Page = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Check this case; may be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Check the cases with this tag; likewise.")
    ] = None,
    conditions: Annotated[
        str, typer.Option("--conditions", help="Under which, with commas.")
    ] = ",".join(CONDITIONS),
    in_flight: InFlight = 8,
    api: ApiName = None,
    model: Model = None,
    api_key: Key = None,
) -> None:
    """Ask again under adversarial conditions and judge each case PASSED, FAILED or UNKNOWN.

    Status 0: all passed; 1: a case failed or is unknown; 2: bad input or no endpoint.
    """
    known = load_golden(golden)
    cases = known.selected(only or [], tag or [])
    wanted = parse_conditions(conditions)
    require_writable(golden if update else None, junit, report)
    with connect(url, api, model, api_key) as endpoint:
        checked = check_cases(endpoint, known, cases, wanted, in_flight)
    show(checked)
    if junit is not None:
        write_whole(junit, junit_xml(checked, golden.name))
    if report is not None:
        write_whole(report, check_page(checked, golden.name, url))
    if update:
        save_golden(updated(known, checked, endpoint.model), golden)
        print(f"{golden} now holds the new answers")
    elif checked.verdict is not Verdict.PASSED:
        raise typer.Exit(1)


def parse_conditions(text: str) -> list[Condition]:
    """Raises UserError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or any(name not in CONDITIONS for name in names):
        raise UserError(f"--conditions takes {', '.join(CONDITIONS)} with commas, not {text!r}")
    return [CONDITIONS[name] for name in dict.fromkeys(names)]


def check_cases(
    endpoint: Endpoint,
    golden: Golden,
    cases: Sequence[Recorded],
    conditions: Sequence[Condition],
    in_flight: int,
) -> Checked:
    """Every case under every condition, until it is not answered, and the verdicts."""
    seen: list[Observation] = []
    for condition in conditions:
        lost = {one.case_id for one in seen if one.answer is None}
        if left := [case for case in cases if case.id not in lost]:
            with bar(condition.name, len(left)) as advance:
                seen += observe(endpoint, left, condition, in_flight, advance, keep_on=True)
    prints = (golden.fingerprint, endpoint.fingerprint)
    judged = [
        judge(case, [one for one in seen if one.case_id == case.id], *prints) for case in cases
    ]
    return Checked(tuple(judged), *prints)


def show(checked: Checked) -> None:
    """A table, what the fingerprints say, and the verdict as the last line."""
    table = Table("case", "verdict", "reason", box=None, pad_edge=False)
    for judged in checked.cases:
        table.add_row(cell(judged.case.id), judged.verdict.value, cell(judged.reason))
    console().print(table, highlight=False)
    print(f"fingerprint: {printable(checked.change)}")
    passed = checked.count(Verdict.PASSED)
    style = MARKS[checked.verdict]
    line = f"{checked.verdict.value}: {passed} of {len(checked.cases)} cases passed"
    console().print(line, style=style, highlight=False)
