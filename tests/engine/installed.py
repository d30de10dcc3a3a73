"""SGLang as others have it: patched by `llm42 patch apply`, and alone with our wheel."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llm42_sglang.cli.patching.wheel import examine, find_wheel

ROOT = Path(__file__).parents[2]
OURS = "llm42-sglang"


def command(folder: Path) -> list[str]:
    """SGLang's own command, which hands our flags over to `llm42 serve`.

    "{port}" stands for its port. It needs `environment`, and is run in a folder with nothing in it.
    """
    python = with_wheel(folder) / "bin" / "python"
    aside = ["env", "-C", str(elsewhere(folder))]
    return [*aside, str(python), "-m", "sglang.launch_server", "--port", "{port}"]


def environment(folder: Path) -> dict[str, str]:
    """What programs of that virtual environment need to find the patched SGLang."""
    path = f"{with_wheel(folder) / 'bin'}:{os.environ['PATH']}"
    return {"PYTHONPATH": str(patched(folder)), "PATH": path}


def patched(folder: Path) -> Path:
    """A folder whose `sglang` is the installed one, patched: links, the patched files apart. The
    installed wheel is not touched."""
    folder, wheel = folder / "patched", find_wheel()
    if not folder.exists():
        shutil.copytree(wheel.root / "sglang", folder / "sglang", copy_function=os.symlink)
        for file in examine(wheel):
            copy = folder / file.path.relative_to(wheel.root)
            copy.unlink()  # a link
            copy.write_bytes(file.patched)
    return folder


def elsewhere(folder: Path) -> Path:
    """A folder with nothing in it."""
    (folder / "elsewhere").mkdir(exist_ok=True)
    return folder / "elsewhere"


def with_wheel(folder: Path) -> Path:
    """A virtual environment with a wheel of this project, and what that needs linked from this one.

    Neither this environment's other packages nor this checkout can be imported there.
    """
    venv = folder / "venv"
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        _link_needed(Path(sysconfig.get_path("purelib", vars={"base": str(venv)})))
        wheel = _build_wheel(folder)
        _pip("--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    return venv


def _build_wheel(folder: Path) -> Path:
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "llm42_sglang", tree / "llm42_sglang", ignore=ignored)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, tree)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-I", "-m", "pip", "--quiet", *map(str, arguments)]
    subprocess.run(command, check=True)


def _link_needed(site_packages: Path) -> None:
    for name in _needed_by(OURS) - {OURS}:
        found = distribution(name)
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            link = site_packages / top
            if not link.is_symlink():
                link.symlink_to(found.locate_file(top))


def _needed_by(name: str) -> set[str]:
    """The distribution and, as far as they are installed here, all that it needs."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(name, frozenset[str]())]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        try:
            requirements = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:  # for another platform
            continue
        seen.add((name, extras))
        for one in requirements:
            contexts = [{"extra": extra} for extra in ("", *extras)]
            if one.marker is None or any(map(one.marker.evaluate, contexts)):
                todo.append((canonicalize_name(one.name), frozenset(one.extras)))
    return {name for name, _ in seen}
