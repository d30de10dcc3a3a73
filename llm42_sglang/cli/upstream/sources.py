"""The sources of one SGLang: of the installed one as it was shipped, or of a wheel."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from llm42_sglang.cli.patching.wheel import REINSTALL, examine, find_wheel
from llm42_sglang.cli.pip import download
from llm42_sglang.errors import UserError

Read = Callable[[str], bytes | None]  # path beside the package's folder -> content, if it is there


def installed() -> Read:
    """The installed sglang as its wheel shipped it. A patched file counts as that, no other."""
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

    return read


def other(named: str) -> tuple[str, Read]:
    """The wheel that the user named, and its sources: a file, a version, or `latest`."""
    with TemporaryDirectory() as folder:  # a file that is open outlives its name
        file = Path(named)
        if not named.endswith(".whl") and "/" not in named:
            if not re.fullmatch(r"[\w.]+", named):
                raise UserError(f"{named} is neither a version, nor latest, nor a wheel file")
            wanted = "sglang" if named == "latest" else f"sglang=={named}"
            file = download(wanted, Path(folder))
        try:
            archive = ZipFile(file)
            members = {*archive.namelist()}
        except (OSError, BadZipFile) as error:
            raise UserError(f"cannot read {file} as a wheel: {error}") from None
    if "sglang/__init__.py" not in members:
        raise UserError(f"{file} holds no sglang; name a wheel of sglang, or a version")
    return file.name, lambda path: archive.read(path) if path in members else None
