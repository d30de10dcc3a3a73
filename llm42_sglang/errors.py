"""What a user can get wrong, and what commands make of it that judge."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

# Controls but tabs and line feeds, other ends of lines, changes of direction, half characters.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class UserError(Exception):
    """A mistake or a lack outside this program. Its text is one line: what is wrong, what to do.

    `llm42` prints the text without a traceback and leaves with `status`: 1, or 2 from commands
    whose status 1 is a verdict.
    """

    status = 1


def judging(command: Callable[..., None]) -> Callable[..., None]:
    """For commands whose status 1 is a verdict: a UserError leaves with status 2."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except UserError as error:
            error.status = 2
            raise

    return run


def printable(text: str) -> str:
    """What others wrote, with escapes in place of what a terminal or a browser would obey."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
