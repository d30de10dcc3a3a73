"""The tables of docs/nodes.md: nodes that are started wrongly or killed, and layouts of ranks."""

from collections.abc import Iterator

from scripts.figures.parts import Result, command, machine, table

LONGEST = 150  # characters of a line


def nodes(result: Result) -> Iterator[str]:
    """What `scripts/nodes` saw."""
    hardware, wrong = result["hardware"], result["wrong"]
    yield f"    {command(result)}"
    yield ""
    interrupted = " It was interrupted." if result["interrupted"] else ""
    yield (
        f"The last run: {machine(hardware)}; torch {hardware['torch']}, SGLang "
        f"{hardware['sglang']}. Rows in which something else happened than must: "
        f"**{len({*wrong}) or 'none'}**.{interrupted}"
    )
    yield from (f"\n- {_cell(one)}" for one in wrong)
    if starts := result["starts"]:
        yield ""
        yield from table(("start", "seen", "statuses", "said"), [*map(_start, starts)])
    if layouts := result["layouts"]:
        yield ""
        yield from table(("flags", "nodes", "seen", "said"), [*map(_layout, layouts)])


def _start(row: Result) -> list[str]:
    return [row["what"], _outcome(row), _statuses(row), _said(row)]


def _layout(row: Result) -> list[str]:
    return [f"`{row['flags']}`", str(row["nodes"]), _outcome(row), _said(row)]


def _outcome(row: Result) -> str:
    return f"**wrong:** {row['outcome']}" if row["wrong"] else row["outcome"]


def _statuses(row: Result) -> str:
    """Of node 0, node 1 and so on."""
    return ", ".join("runs" if status is None else str(status) for status in row["ends"])


def _said(row: Result) -> str:
    """The lines, each cut off where it is long: gloo's own messages are."""
    lines = (f"{line[:LONGEST]}…" if len(line) > LONGEST else line for line in row["said"])
    return _cell("; ".join(dict.fromkeys(lines)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
