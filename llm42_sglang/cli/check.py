"""`llm42 check`: does a server still answer what was recorded?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from llm42_sglang.cli.endpoints import ApiName, InFlight, Key, ModelName, Url
from llm42_sglang.cli.output import Report, bar, cell, console, require_writable
from llm42_sglang.errors import UserError, judging, printable
from llm42_sglang.files import write_whole
from llm42_sglang.report.check import check_page
from llm42_sglang.repro.conditions import CONDITIONS, USUAL, Condition, Observation, observe
from llm42_sglang.repro.endpoint import Endpoint, connect
from llm42_sglang.repro.golden import GoldenFile, load_golden, save_golden
from llm42_sglang.repro.judge import CheckResult, CheckVerdict, judge, updated
from llm42_sglang.repro.junit import junit_xml
from llm42_sglang.repro.suite import Case
from llm42_sglang.repro.wire import path_of, require_fields

STYLES = {CheckVerdict.PASSED: "green", CheckVerdict.FAILED: "red", CheckVerdict.UNKNOWN: "yellow"}


@judging
def check(
    golden: Annotated[Path, typer.Argument(help="A file that `llm42 record` wrote.")],
    url: Url,
    update: Annotated[
        bool, typer.Option("--update", help="Record the new answers, if they are reproducible.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    report: Report = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Check only this case; may be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Check only the cases with this tag; may be repeated."),
    ] = None,
    conditions: Annotated[
        str, typer.Option("--conditions", help="Conditions to check under, with commas.")
    ] = ",".join(USUAL),
    in_flight: InFlight = 8,
    api: ApiName = None,
    model: ModelName = None,
    api_key: Key = None,
) -> None:
    """Ask every case again under several conditions, and judge it PASSED, FAILED or UNKNOWN.

    Status 0: all passed. Status 1: a case failed or is unknown. Status 2: bad input or no endpoint.
    """
    recorded = load_golden(golden)
    cases = recorded.selected(only or [], tag or [])
    chosen = parse_conditions(conditions)
    require_writable(golden if update else None, junit, report)
    with connect(url, api, model, api_key) as endpoint:
        result = check_cases(endpoint, recorded, cases, chosen, in_flight)
    show(result)
    if junit is not None:
        write_whole(junit, junit_xml(result, golden.name))
    if report is not None:
        write_whole(report, check_page(result, golden.name, url))
    if update:
        save_golden(updated(recorded, result, endpoint.model), golden)
        print(f"{golden} now holds the new answers")
    elif result.verdict is not CheckVerdict.PASSED:
        raise typer.Exit(1)


def parse_conditions(text: str) -> list[Condition]:
    """The conditions of a list with commas. Raises UserError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or any(name not in CONDITIONS for name in names):
        raise UserError(f"--conditions takes {', '.join(CONDITIONS)} with commas, not {text!r}")
    return [CONDITIONS[name] for name in dict.fromkeys(names)]


def check_cases(
    endpoint: Endpoint,
    golden: GoldenFile,
    cases: Sequence[Case],
    conditions: Sequence[Condition],
    in_flight: int,
) -> CheckResult:
    """Ask the cases under all conditions and judge them by the answers of the nearest fingerprint.

    A case that was not answered under one condition is not asked under the next. Raises UserError
    if the endpoint's API does not have all that a case asks for.
    """
    for case in cases:
        require_fields(case, path_of(case, endpoint.api))
    observed = endpoint.fingerprint
    recorded = {case.id: golden.recorded(case, observed) for case in cases}
    observations: list[Observation] = []
    for condition in conditions:
        unanswered = {o.case_id for o in observations if o.answer is None}
        if left := [case for case, _ in recorded.values() if case.id not in unanswered]:
            with bar(condition.name, len(left)) as advance:
                observations += observe(endpoint, left, condition, in_flight, advance, keep_on=True)
    results = [
        judge(case, [o for o in observations if o.case_id == case.id], fingerprint, observed)
        for case, fingerprint in recorded.values()
    ]
    nearest = golden.nearest(observed).fingerprint
    return CheckResult(tuple(results), nearest, observed, len(golden.blocks))


def show(check: CheckResult) -> None:
    """Print a table of the cases, the change of the fingerprint, and the verdict as last line."""
    table = Table("case", "verdict", "reason", box=None, pad_edge=False)
    for result in check.cases:
        table.add_row(cell(result.case.id), result.verdict.value, cell(result.reason))
    console().print(table, highlight=False)
    print(f"fingerprint: {printable(check.change)}")
    passed = check.count(CheckVerdict.PASSED)
    style = STYLES[check.verdict]
    line = f"{check.verdict.value}: {passed} of {len(check.cases)} cases passed"
    console().print(line, style=style, highlight=False)
