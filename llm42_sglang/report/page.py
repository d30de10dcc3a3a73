"""What a report page consists of, and its HTML. All text is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from llm42_sglang.report.tokens import SideBySide

if TYPE_CHECKING:  # jinja2 is there when a page is drawn, not before
    import jinja2

Mood = Literal["good", "bad", "unsure"]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are shown as they are; `marked` rows stand out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    marked: frozenset[int] = frozenset()


class Bar(NamedTuple):
    """A share between a label and a note."""

    label: str
    percent: float
    note: str
    two_parts: bool  # whether the rest has a colour of its own


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it, in this order, as far as it is there."""

    title: str
    text: str = ""
    bars: Sequence[Bar] = ()
    sides: SideBySide | None = None
    table: Table | None = None
    folded: Table | None = None  # behind a line that opens it
    folded_title: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page."""

    title: str
    mood: Mood
    verdict: str  # some words
    headline: str  # one sentence
    facts: Sequence[tuple[str, Any]]  # name and value, below the verdict
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The HTML document."""
    return _template().render(page=page)


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("llm42_sglang.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
