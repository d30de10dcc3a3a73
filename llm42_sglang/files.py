"""Files that are written as a whole, or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm42_sglang.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to. Its file takes the place of `path` at the end of the block.

    If the block fails, `path` is as before. Of a link the file that it names is replaced. The mode
    stays. Raises UserError if the file cannot be written, and for a device or a pipe, which a
    rename would destroy.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_symlink() or (target.exists() and not target.is_file()):  # the first: a loop
            raise UserError(f"cannot write {path}: it is no file; name one")
        new = target.with_name(f".{target.name}.{os.getpid()}.new")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    try:
        yield new
        if target.exists():
            shutil.copymode(target, new)
        os.replace(new, target)
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


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet, as a whole or not at all.

    mode: its permissions, from the first moment on. Raises FileExistsError, and other OSErrors.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _create(new, content, mode)
        os.link(new, path)  # unlike a rename it fails if `path` exists
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _create(path, content, mode)
    finally:
        with suppress(OSError):
            new.unlink()


# How file systems without hard links refuse one: FAT, some shares, and old kernels.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


def _create(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet; what fails leaves none. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        path.unlink()
        raise
