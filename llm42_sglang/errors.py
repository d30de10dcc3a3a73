"""What a user can get wrong, and what commands make of it that judge."""

from collections.abc import Callable
from functools import wraps
from typing import Any


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
