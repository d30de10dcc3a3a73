"""The table of drills in docs/fire.md."""

from collections.abc import Iterator

from scripts.figures.parts import Result, command, machine, table

ENDS = {
    "refused": "does not start, and one line says why",
    "ends": "ends",
    "gone": "deterministic service ends (503), ordinary goes on",
    "on": "goes on",
}


def drills(result: Result) -> Iterator[str]:
    """What `scripts/drill` saw."""
    hardware, wrong = result["hardware"], len(result["wrong"])
    yield f"    {command(result)}"
    yield ""
    yield (
        f"The last run: {result['minutes']:.0f} minutes on {machine(hardware)}; the places were "
        f"drawn from {result['places']:,}, and {result['not reached']} of them were not come "
        f"to. Ends that a drill does not allow, answers that differ, hangs: **{wrong or 'none'}**."
    )
    yield ""
    columns = ("what was broken", "times", "the server then", "right", "error", "wrong until then")
    yield from table(columns, [_row(row) for row in result["rows"]])


def _row(row: Result) -> list[str]:
    ends = [f"{ENDS[end]}{_times(row, end)}" for end in ENDS if end in row["ends"]]
    requests = row["requests"]
    counts = (requests.get(name, 0) for name in ("right answers", "errors", "wrong"))
    return [
        row["what"],
        str(row["times"]),
        "; ".join(ends),
        *(f"{n:,}" if n else "" for n in counts),
    ]


def _times(row: Result, end: str) -> str:
    return f" ({row['ends'][end]})" if len(row["ends"]) > 1 else ""
