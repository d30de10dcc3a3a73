"""An environment with SGLang and its dependencies alone, and a wheel of this project in it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def make(folder: Path) -> tuple[tuple[str, ...], dict[str, str], Path]:
    """What starts a server from the wheel: command, environment, working directory.

    SGLang is linked from this environment. Neither this environment's other packages nor this
    checkout can be imported by that command.
    """
    venv, elsewhere = folder / "venv", folder / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    _link_sglang(Path(sysconfig.get_path("purelib", vars={"base": str(venv)})))
    wheel = _build_wheel(folder)
    _pip("--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    env = {"PYTHONPATH": "", "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    return (str(venv / "bin" / "llm42"), "serve", "--port", "{port}"), env, elsewhere


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


def _link_sglang(site_packages: Path) -> None:
    for name in _needed_by("sglang"):
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
