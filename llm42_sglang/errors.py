"""Mistakes of the user, and the exit status that they have."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

# Control characters other than tab and line feed, other line ends, changes of direction, and halves
# of surrogate pairs.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Of a RecursionError: nothing that we write has hundreds of levels.
TOO_DEEP = "a file or an answer has lists and objects inside of each other, in too many levels"


class UserError(Exception):
    """Something is wrong or missing outside this program.

    The message is one line: what is wrong, and what to do. `llm42` prints it without a traceback,
    and ends with `status`. That is 1, but 2 for commands whose status 1 is a verdict.
    """

    status = 1


def judging(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command whose status 1 is a verdict: a UserError then ends it with status 2."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except UserError as error:
            error.status = 2
            raise

    return run


def printable(text: str) -> str:
    """Return text of others with escapes for all that a terminal or a browser would obey."""
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return text of others as one printable line."""
    return printable(" ".join(text.split()))
