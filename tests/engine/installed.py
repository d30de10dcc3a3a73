"""SGLang as others have it: patched by `llm42 patch apply`, or with our wheel and no checkout."""

import os
import shutil
import sys
from pathlib import Path

from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.wheel import examine, find_wheel

ROOT = Path(__file__).parents[2]


def command(kind: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The server's command, `{port}` in it, and its environment; what it needs is made in
    `folder`."""
    match kind:
        case "patched":
            # SGLang's own command, which hands our flags over to `llm42 serve`.
            launch = [sys.executable, "-m", "sglang.launch_server", "--port", "{port}"]
            return launch, {"PYTHONPATH": f"{patched(folder)}:{ROOT}"}
    raise ValueError(kind)


def patched(folder: Path) -> Path:
    """A folder whose `sglang` is the installed one, patched: links, the patched files apart. The
    installed wheel is not touched."""
    folder, wheel = folder / "patched", find_wheel()
    if not folder.exists():
        shutil.copytree(wheel.root / "sglang", folder / "sglang", copy_function=os.symlink)
        for files in examine(wheel, series.load()).values():
            for file in files:
                copy = folder / file.path.relative_to(wheel.root)
                copy.unlink()  # a link
                copy.write_bytes(file.patched)
    return folder
