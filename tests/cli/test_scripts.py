"""The shell scripts make the environment, find it again, share it and repair it.

Each test runs copies of the real scripts in a small checkout of its own. A fake Python makes
environments in which a fake pip and a fake uv only write down how they were called.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests.cli.conftest import is_one_line

ROOT = Path(__file__).parents[2]
LOCK = "uv==1 \\\n    --hash=sha256:{}\nalpha==1\n"
FAKE_PYTHON = f"""#!/usr/bin/env bash
[[ "$1 $2" == "-m venv" ]] || exec {sys.executable} "$@"
mkdir -p "$3/bin" && cp "${{0%/*}}/fake" "$3/bin/python"
"""
# As pip it installs itself as uv. As either it runs the command that a test has for installing.
FAKE = """#!/usr/bin/env bash
[[ $* != *"config get"* ]] || exit 1
echo "${0##*/} $*" >>@CALLS@
[[ $* != */dev/fd/* ]] || cp "$0" "${0%/*}/uv"
[[ $* != *requirements.lock* ]] || eval "${INSTALLING-}"
"""


class Checkout:
    """A checkout with the real scripts, a tiny lock, a cache and a fake Python."""

    def __init__(self, root: Path, shared: Path) -> None:
        self.root, self.cache, self.log = root, shared / "cache", shared / "calls"
        self.log.touch()
        shutil.copytree(ROOT / "scripts", root / "scripts")
        (root / "pyproject.toml").write_text("version 1")
        (root / "requirements.lock").write_text(LOCK)
        for name, text in (("python3", FAKE_PYTHON), ("fake", FAKE)):
            (shared / name).write_text(text.replace("@CALLS@", str(self.log)))
            (shared / name).chmod(0o755)
        self.env = {"LLM42_CACHE": str(self.cache), "LLM42_PYTHON": str(shared / "python3")}

    def start(self, script: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = os.environ | {"PYTHONPATH": "/before"} | self.env | env
        return subprocess.Popen([self.root / "scripts" / script, *arguments], env=env, **pipes)

    def run(self, *command: str, **env: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        process = self.start(*command, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / "checkout", tmp_path)


@pytest.mark.parametrize(
    ("command", "env", "status", "message"),
    [
        ("run", {}, 2, "usage: scripts/run COMMAND"),
        ("quickstart --sreve", {}, 2, "unknown argument --sreve"),
        ("quickstart --port 70000", {}, 2, "--port wants a number"),
        ("run true", {"LLM42_PYTHON": "/bin/false"}, 1, "not Python 3.11 or newer"),
        ("run true", {"LLM42_CACHE": "/proc/nowhere"}, 1, "cannot write to /proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line_before_any_set_up(checkout, command, env, status, message):
    exit_status, out, err = checkout.run(*command.split(), **env)
    assert (exit_status, out) == (status, "")
    assert message in err and is_one_line(err)
    assert not checkout.cache.exists() or not any(checkout.cache.iterdir())


def test_uv_installs_the_lock_once_for_all_checkouts_that_have_it(checkout, tmp_path):
    script = 'echo "$VIRTUAL_ENV $PYTHONPATH"; [[ $PATH == "$VIRTUAL_ENV"/bin:* ]] && exit 7'
    status, out, _ = checkout.run("run", "bash", "-c", script)
    env_dir, path = out.split()
    assert (status, path) == (7, f"{checkout.root}:/before")
    pip, uv, register = checkout.calls()
    assert pip.startswith("python -I -m pip") and uv.startswith("uv pip install")
    assert f"--require-hashes --requirement {checkout.root}/requirements.lock" in uv
    assert f"{env_dir}/uv-cache" in uv  # on the same file system: linked, not copied
    assert register.endswith(f"--no-deps --no-build-isolation --editable {checkout.root}")

    other = Checkout(tmp_path / "other", tmp_path)
    assert other.run("run", "printenv", "VIRTUAL_ENV") == (0, env_dir + "\n", "")
    assert len(checkout.calls()) == 3

    (other.root / "pyproject.toml").write_text("version 2")
    assert other.run("run", "printenv", "VIRTUAL_ENV")[1] == env_dir + "\n"
    assert "--editable" in checkout.calls()[3] and len(checkout.calls()) == 4

    (other.root / "requirements.lock").write_text(LOCK + "beta==1\n")
    assert other.run("run", "printenv", "VIRTUAL_ENV")[1] != env_dir + "\n"
    assert Path(env_dir).is_dir()


def test_what_failed_or_was_killed_starts_over(checkout):
    """Both leave a folder that has no stamp."""
    status, out, err = checkout.run("run", "echo", "out", INSTALLING="echo no space left; exit 1")
    assert (status, out) == (1, "")
    *_, reason, error = err.splitlines()
    assert reason == "no space left"
    assert error.startswith("llm42: error: the dependencies could not be installed")
    (env_dir,) = (path for path in checkout.cache.glob("env-*") if path.is_dir())
    assert not (env_dir / ".complete").exists()
    (env_dir / "leftover").touch()
    assert checkout.run("run", "echo", "out")[:2] == (0, "out\n")
    assert not (env_dir / "leftover").exists()


def test_concurrent_set_ups_make_one_environment(checkout, tmp_path):
    gate, started = tmp_path / "gate", tmp_path / "started"
    waits = f"touch {started}; while [[ ! -e {gate} ]]; do sleep 0.05; done"
    first = checkout.start("run", "true", INSTALLING=waits, LLM42_UV="0")
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = checkout.start("run", "true")
    try:
        assert "waiting for it" in second.stderr.readline()
    finally:
        gate.touch()
        (_, err), _ = (process.communicate(timeout=60) for process in (first, second))
    assert [first.returncode, second.returncode] == [0, 0]
    assert "without uv: pip installs the same" in err  # and it checks the same hashes
    pip, _ = checkout.calls()
    assert pip.startswith("python -I -m pip")
    assert f"--require-hashes --requirement {checkout.root}/requirements.lock" in pip


def test_the_lock_has_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = chain(project["dependencies"], *project["optional-dependencies"].values())
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {re.match(r"[\w.-]+", name)[0] for name in required} <= set(locked)
