"""The tables of docs/mutants.md: changes of core that no test notices, lines that no test runs."""

from collections.abc import Iterator

from scripts.figures.parts import Result, command, percent, table

LEAST = 0.9  # of a file's lines; files below it are listed


def mutants(result: Result) -> Iterator[str]:
    """What `scripts/mutants` counted, and every survivor with its reason."""
    yield f"    {command(result)}"
    yield ""
    files = dict(sorted(result["files"].items()))
    kinds = ("mutants", "killed", "survived")
    rows = [[f"`{name}`", *(str(file[kind]) for kind in kinds)] for name, file in files.items()]
    totals = [str(sum(file[kind] for file in files.values())) for kind in kinds]
    yield from table(("file", "mutants", "noticed", "not noticed"), [*rows, ["in all", *totals]])
    yield ""
    yield "Why those that no test notices are right all the same:"
    yield ""
    rows = [
        [f"`{name}.py:{one['line']}`", _code(one["before"]), _code(one["after"]), one["reason"]]
        for name, file in files.items()
        for one in file["survivors"]
    ]
    yield from table(("where", "line", "mutant", "why"), rows)
    yield ""
    yield "Not made, for they say nothing:"
    yield ""
    yield from table(("kind", "why"), [[_code(k), why] for k, why in result["left_out"].items()])


def coverage(result: Result) -> Iterator[str]:
    """What `scripts/coverage` found: the total, and the files that tests run least."""
    yield f"    {command(result)}"
    yield ""
    total, files = result["total"], result["files"]
    if result["counted"] != ["pytest"]:
        yield "Of the suite, this was counted:"
        yield ""
        yield from (f"    {run}" for run in result["counted"])
        yield ""
    yield (
        f"Tests run **{percent(_run(total))}** of the {total['lines']:,} lines of "
        f"`llm42_sglang/engine`. Files of which they run less than {LEAST:.0%}:"
    )
    yield ""
    rows = [
        [f"`{name}`", str(file["lines"]), percent(_run(file)), file["where"]]
        for name, file in files.items()
        if _run(file) < LEAST
    ]
    yield from table(("file", "lines", "run", "not run"), rows)


def _run(file: Result) -> float:
    return 1 - file["missed"] / file["lines"]


def _code(text: str) -> str:
    """Text as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")
