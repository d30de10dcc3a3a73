"""Replace files, all or none of them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Change(NamedTuple):
    """New content for a file, and the one it has now."""

    path: Path
    old: bytes
    new: bytes


def replace_all(changes: Sequence[Change]) -> None:
    """Replace every file by a rename. Raises OSError; after any exception all files are unchanged.

    New and old contents are written beside the files first. Then going forward and going back needs
    renames only.
    """
    begun: list[Path] = []
    try:
        for path, old, new in changes:
            _stage(_beside(path, "new"), new, path)
            _stage(_beside(path, "old"), old, path)
        for path, _, _ in changes:
            begun.append(path)  # before the rename, as an interrupt may come between the two
            os.replace(_beside(path, "new"), path)
    except BaseException:
        for path in begun:
            os.replace(_beside(path, "old"), path)
        raise
    finally:
        for path, _, _ in changes:
            _beside(path, "new").unlink(missing_ok=True)
            _beside(path, "old").unlink(missing_ok=True)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.llm42-{kind}")


def _stage(staged: Path, content: bytes, like: Path) -> None:
    with staged.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    shutil.copymode(like, staged)
