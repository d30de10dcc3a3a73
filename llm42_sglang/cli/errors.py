"""What a user can get wrong, as all commands see it, and what those make of it that judge."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from llm42_sglang.errors import UserError

__all__ = ["UserError", "judging"]


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
