"""`llm42 model`: the embedded default model, converted once into the user's cache."""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.gguf_source import GGUF_SHA256, find_gguf
from llm42_sglang.tools import require

MODEL_NAME = "SmolLM2-135M-Instruct"
LAYOUT = 1  # raise it when the conversion writes something else than before

Progress = Callable[[str], None]


def model() -> None:
    """Prepare the embedded default model and print the folder it is in."""
    print(ensure_default_model(lambda message: print(f"llm42: {message}", file=sys.stderr)))


def default_model_dir() -> Path:
    """Where the default model is, or will be. A folder there is complete: it arrives by rename."""
    key = hashlib.sha256(f"{GGUF_SHA256} {LAYOUT}".encode()).hexdigest()[:8]
    return cache_dir() / "models" / f"{MODEL_NAME}-{key}"


def ensure_default_model(progress: Progress = lambda message: None) -> Path:
    """The folder of the default model, made now if it is not there.

    `progress` gets a line before each step. Safe to call from several processes at once. Raises
    UserError if the model cannot be fetched or the cache not be written.
    """
    folder = default_model_dir()
    if folder.is_dir():
        return folder
    try:
        with _exclusive(folder, progress):
            if not folder.is_dir():
                _make(folder, progress)
    except OSError as error:
        raise UserError(
            f"cannot prepare the default model in {folder.parent}: {error}; make room there or "
            "name another folder with LLM42_CACHE"
        ) from error
    return folder


def _make(folder: Path, progress: Progress) -> None:
    require("the default model", "accelerate", "gguf", "safetensors")
    from llm42_sglang.cli.gguf_model import convert

    work = folder.with_name(f".{folder.name}.partial")
    _remove(work)  # what a killed process left; no other one is at work, we hold the lock
    made = work / "model"
    made.mkdir(parents=True)
    try:
        gguf_file = find_gguf(work, progress)
        progress(f"converting {MODEL_NAME} to bfloat16 safetensors (about 10 s)")
        convert(gguf_file, made)
        _sync(made)
        os.rename(made, folder)
        progress(f"the model is ready in {folder}")
    finally:
        _remove(work)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Have the files on disk before the rename that declares them complete."""
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


@contextmanager
def _exclusive(folder: Path, progress: Progress) -> Iterator[None]:
    """One process at a time; the kernel drops the lock when its holder ends, however it does."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is preparing the model; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
