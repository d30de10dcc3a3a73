"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm42_sglang.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes the place of `path` when it is complete, or never."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        os.replace(new, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        with suppress(OSError):  # it is not there, or never could be
            new.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file as a whole, or leave what is there. Raises UserError.

    Half of a surrogate pair, which UTF-8 cannot hold, becomes an escape; in JSON it is the same.
    """
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
