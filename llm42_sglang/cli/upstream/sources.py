"""The sources of one SGLang: of the installed one as it was shipped, or of a wheel."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.patching.wheel import REINSTALL, examine, find_wheel
from llm42_sglang.cli.pip import download
from llm42_sglang.engine.launch import PINNED_SGLANG

LATEST = "latest"
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc|\.post|\.dev)[0-9]+)*")  # PEP 440, public


class Sources(NamedTuple):
    """`read`: path beside the package's folder -> content, None if there is no such file."""

    version: str
    read: Callable[[str], bytes | None]


def installed() -> Sources:
    """The installed sglang as its wheel shipped it, whether patched since or not.

    Raises UserError if it is not the pinned one; reading does for a file that is neither.
    """
    wheel = find_wheel()
    patchable = {file.path: file for file in examine(wheel)}

    def read(path: str) -> bytes | None:
        file = wheel.root / path
        if not file.is_file():
            return None
        content = patchable[file].shipped if file in patchable else file.read_bytes()
        if not wheel.shipped(path, content):
            raise UserError(f"{file} was altered by something else; {REINSTALL}")
        return content

    return Sources(PINNED_SGLANG, read)


def in_wheel(file: Path) -> Sources:
    """The sglang in a wheel file. Raises UserError if it holds none."""
    try:
        archive = ZipFile(file)
        members = {*archive.namelist()}
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except BadZipFile:
        raise UserError(f"{file} is not a wheel") from None
    infos = [re.fullmatch(r"sglang-([^/]+)\.dist-info/METADATA", name) for name in members]
    versions = [info[1] for info in infos if info]
    if not versions:
        raise UserError(f"{file} holds no sglang; name a wheel of sglang, or a version")
    return Sources(versions[0], lambda path: archive.read(path) if path in members else None)


def wheel_file(named: str) -> Path:
    """The wheel that the user named: a file, a version, or `latest`. Versions are downloaded once.

    Raises UserError, one line, if there is no such thing.
    """
    if named.endswith(".whl") or "/" in named:
        return Path(named)
    if named != LATEST and not _VERSION.fullmatch(named):
        raise UserError(f"{named} is neither a version, nor {LATEST}, nor a wheel file")
    folder = cache_dir() / "wheels"
    if known := sorted(folder.glob(f"sglang-{named}-*.whl")):
        return known[0]
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        wheel = download("sglang" if named == LATEST else f"sglang=={named}", Path(partial))
        return wheel.replace(folder / wheel.name)  # by rename: what is there is complete
