"""`llm42 bench invariance`: which operators give a row the same bits whatever is around it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import options, report
from llm42_sglang.cli.progress import bar

if TYPE_CHECKING:
    import torch

ROWS = (1, 2, 3, 4, 8, 16, 32, 128)
PAGE, SLOTS = 32, 4  # of the canonical pass whose slots are compared
WORKLOAD = {
    "rows": "random, shapes of SmolLM2-135M",
    "batch": "row 0's bits at M = " + ", ".join(map(str, ROWS)),
    "position": "the row's bits at the first, second, middle and last place of each M",
    "slot": f"a page's bits as each of {SLOTS} slots of {PAGE} rows, neighbours differing",
}


class Finding(NamedTuple):
    """Of one operator. None: the question does not arise."""

    operator: str
    batch: bool
    position: bool
    slot: bool | None
    classes: list[list[str]]  # shapes that give the same bits


# (trial, rows, place) -> the probed row, when it is number `place` of `rows`
Probe = Callable[[int, int, int], "torch.Tensor"]


def invariance(
    trials: Annotated[int, typer.Option(min=1, help="Probed rows of each operator.")] = 4,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; default: torch's.")] = None,
    out: options.Out = None,
    page: options.Page = None,
) -> None:
    """Batch-, position- and slot-invariance of a model's operators on this CPU.

    A tick means that no bit differed in the trials made; a cross, that one did.
    """
    report.require_writable(out, page)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        workload = WORKLOAD | {"trials": trials, "threads": torch.get_num_threads()}
        found = findings(trials)
    finally:
        torch.set_num_threads(before)
    rows = [_row(finding) for finding in found]
    shown = report.show("same bits?", workload, COLUMNS, rows)
    report.page(page, "invariance", workload, [shown])
    report.finish({"operators": [finding._asdict() for finding in found]}, workload, out)


def findings(trials: int) -> list[Finding]:
    """Of all operators."""
    from llm42_sglang.cli.bench import attention_rows as attention
    from llm42_sglang.cli.bench.operators import row_operators

    operators = row_operators()
    found = []
    with bar("comparing bits", len(operators) + 3) as advance:
        for operator in operators:
            slot = slot_invariant(operator, trials)
            found.append(examine(operator.name, {"": row_probe(operator)}, trials, slot))
            advance()
        both = {"decode ": attention.decode_row, "extend ": attention.extend_row}
        for label, probe in both.items():
            # Decode rows are no slots.
            slot = slots_agree(attention_page, trials) if label == "extend " else None
            found.append(examine(f"attention, {label.strip()}", {"": probe}, trials, slot))
            advance()
        found.append(examine("attention, decode beside extend", both, trials, None))
        advance()
    return found


def examine(
    name: str, probes: Mapping[str, Probe], trials: int, slot: bool | None = None
) -> Finding:
    """Ask every probe at every number of rows, and at some places among them."""
    at_first = {
        f"{label}{rows}": digest(probe, trials, rows, 0)
        for label, probe in probes.items()
        for rows in ROWS
    }
    position = all(
        digest(probe, trials, rows, place) == at_first[f"{label}{rows}"]
        for label, probe in probes.items()
        for rows in ROWS
        for place in places(rows)
    )
    classes = grouped(at_first)
    return Finding(name, len(classes) == 1, position, slot, classes)


def places(rows: int) -> list[int]:
    """Where a row is put, besides the first place."""
    return sorted({1, rows // 2, rows - 1} & set(range(1, rows)))


def digest(probe: Probe, trials: int, rows: int, place: int) -> bytes:
    """Of the bits of all trials."""
    total = hashlib.sha256()
    for trial in range(trials):
        total.update(_bits(probe(trial, rows, place)))
    return total.digest()


def grouped(digests: Mapping[str, bytes]) -> list[list[str]]:
    """Names with equal digests, in the order of their first member."""
    groups: dict[bytes, list[str]] = {}
    for name, value in digests.items():
        groups.setdefault(value, []).append(name)
    return list(groups.values())


def row_probe(operator: Any) -> Probe:
    """A probe of a RowOperator; the other rows depend on shape and place, the row on the trial."""

    def probe(trial: int, rows: int, place: int) -> "torch.Tensor":
        batch = _random(operator, 1000 + rows * 1000 + place, rows)
        batch[place] = _random(operator, trial, 1)[0]
        return operator.run(batch)[place]

    return probe


def slot_invariant(operator: Any, trials: int) -> bool:
    """Whether a page gets the same bits in every slot of a pass of PAGE * SLOTS rows."""

    def page(trial: int, slot: int) -> "torch.Tensor":
        rows = _random(operator, 500 + slot, PAGE * SLOTS)
        span = slice(slot * PAGE, (slot + 1) * PAGE)
        rows[span] = _random(operator, trial, PAGE)
        return operator.run(rows)[span]

    return slots_agree(page, trials)


def attention_page(trial: int, slot: int) -> "torch.Tensor":
    """A page of an extend whose SLOTS slots attend in one call."""
    from llm42_sglang.cli.bench.attention_rows import extend_page

    return extend_page(trial, SLOTS, slot, PAGE)


def slots_agree(page: Callable[[int, int], "torch.Tensor"], trials: int) -> bool:
    """Whether `page(trial, slot)` has the same bits in every slot."""
    return all(
        len({_bits(page(trial, slot)) for slot in range(SLOTS)}) == 1 for trial in range(trials)
    )


def _random(operator: Any, seed: int, rows: int) -> "torch.Tensor":
    import torch

    dice = torch.Generator().manual_seed(seed)
    return torch.randn(rows, operator.width, generator=dice).to(operator.dtype)


def _bits(tensor: "torch.Tensor") -> bytes:
    import torch

    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


COLUMNS = ("operator", "batch", "position", "slot", "shapes with the same bits")


def _row(finding: Finding) -> Sequence[str]:
    marks = (finding.batch, finding.position, finding.slot)
    return finding.operator, *map(_mark, marks), " | ".join(_shapes(finding.classes))


def _mark(answer: bool | None) -> str:
    return {True: "✓", False: "✗", None: "-"}[answer]


def _shapes(classes: Sequence[Sequence[str]]) -> Iterator[str]:
    return (", ".join(members) for members in classes)
