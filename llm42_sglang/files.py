"""Files that are written as a whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm42_sglang.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to. Its file takes the place of `path` at the end of the block.

    If the block fails, `path` is as before. Raises UserError if the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        os.replace(new, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        with suppress(OSError):  # usually it has been moved already
            new.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file as a whole, or leave the old one. Raises UserError.

    Half of a surrogate pair becomes an escape, for UTF-8 cannot hold it. In JSON both are the same.
    """
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
