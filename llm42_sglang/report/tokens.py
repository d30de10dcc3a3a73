"""Two answers side by side: what agrees before the first difference, and what comes after it."""

from collections.abc import Sequence
from typing import NamedTuple

from llm42_sglang.repro.output import Output, first_difference

BEFORE, AFTER = 24, 40  # tokens shown; characters are eight times as many


class Piece(NamedTuple):
    """A token, or a character."""

    text: str
    id: int | None
    state: str  # same, first or after


class Side(NamedTuple):
    """One answer."""

    title: str
    pieces: Sequence[Piece]
    cut_before: int  # pieces that are not shown
    cut_after: int


class SideBySide(NamedTuple):
    """Both."""

    left: Side
    right: Side
    unit: str
    at: int


def side_by_side(titles: tuple[str, str], left: Output, right: Output) -> SideBySide | None:
    """None where the texts and tokens are the same."""
    for unit, split, scale in (("token", _tokens, 1), ("character", _characters, 8)):
        pieces = split(left), split(right)
        if pieces[0] is None or pieces[1] is None:
            continue
        if (at := first_difference(*pieces)) is not None:
            first, second = (
                _side(title, one, at, scale) for title, one in zip(titles, pieces, strict=True)
            )
            return SideBySide(first, second, unit, at)
    return None


def _tokens(output: Output) -> list[tuple[str, int | None]] | None:
    ids, texts = output.ids, output.tokens
    if ids is None and texts is None:
        return None
    if texts is None or (ids is not None and len(texts) != len(ids)):
        texts = list(map(str, ids or ()))
    return list(zip(texts, ids if ids is not None else [None] * len(texts), strict=True))


def _characters(output: Output) -> list[tuple[str, int | None]]:
    return [(character, None) for character in output.text]


def _side(title: str, pieces: Sequence[tuple[str, int | None]], at: int, scale: int) -> Side:
    start, end = max(0, at - BEFORE * scale), at + AFTER * scale
    shown = [
        Piece(text, number, "same" if i < at else "first" if i == at else "after")
        for i, (text, number) in enumerate(pieces[start:end], start=start)
    ]
    return Side(title, shown, start, max(0, len(pieces) - end))
