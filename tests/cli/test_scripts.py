"""The shell scripts: usage, and how the environment is made, found again, shared and repaired.

Each test runs copies of the real scripts in a small checkout of its own. A fake Python makes
environments in which a fake pip only writes down what it was asked for.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SHELL_SCRIPTS = [
    "run",
    "test",
    "bench",
    "canary",
    "gpu_acceptance",
    "quickstart",
    "_env.sh",
    "../.ci/run",
]
PYPROJECT = """
[project]
version = "1"
dependencies = ["alpha"]
[project.optional-dependencies]
dev = ["beta"]
"""
FAKE_PYTHON = f"""#!/usr/bin/env bash
[[ "$1 $2" == "-m venv" ]] || exec {sys.executable} "$@"
[[ -z ${{FAKE_VENV_FAILS-}} ]] || {{ echo 'no module ensurepip'; exit 1; }}
mkdir -p "$3/bin" && cp "${{0%/*}}/fake-pip" "$3/bin/python"
"""
FAKE_PIP = """#!/usr/bin/env bash
echo "$*" >>@CALLS@
echo 'Collecting alpha'
echo '  Downloading alpha-1.whl (123.4 MB)'
sleep "${FAKE_PIP_SLEEPS:-0}"
while [[ -n ${FAKE_PIP_WAITS-} && ! -e $FAKE_PIP_WAITS ]]; do sleep 0.05; done
[[ -z ${FAKE_PIP_FAILS-} ]] || { echo 'ERROR: no space left' >&2; exit 1; }
"""


class Checkout:
    """A checkout with the real scripts, tiny pins, a cache and a fake Python."""

    def __init__(self, root: Path, shared: Path) -> None:
        self.root, self.cache, self.calls = root, shared / "cache", shared / "pip.calls"
        shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "requirements.lock").write_text("alpha==1\n")
        tools = shared / "tools"
        tools.mkdir(exist_ok=True)
        self.python = tools / "python3"
        self.python.write_text(FAKE_PYTHON)
        (tools / "fake-pip").write_text(FAKE_PIP.replace("@CALLS@", str(self.calls)))
        for tool in tools.iterdir():
            tool.chmod(0o755)

    def start(self, script: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        settings = {"LLM42_CACHE": str(self.cache), "LLM42_PYTHON": str(self.python), **env}
        return subprocess.Popen(
            [self.root / "scripts" / script, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "/before", **settings},
            start_new_session=True,
        )

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(script, *arguments, **env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def env_dir(self, **env: str) -> Path:
        done = self.run("run", "printenv", "VIRTUAL_ENV", **env)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    def pip_calls(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / "checkout", tmp_path)


@pytest.mark.parametrize("script", SHELL_SCRIPTS)
def test_bash_syntax(script):
    subprocess.run(["bash", "-n", SCRIPTS / script], check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "usage: scripts/run COMMAND"),
        (["run", "--serve"], "usage: scripts/run COMMAND"),
        (["quickstart", "--sreve"], "unknown argument --sreve"),
        (["quickstart", "--port"], "--port wants a number"),
        (["quickstart", "--port", "70000"], "--port wants a number"),
        (["quickstart", "--serve", "--port", "x"], "--port wants a number"),
    ],
)
def test_a_wrong_command_line_is_one_line_before_any_set_up(checkout, arguments, said):
    done = checkout.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("llm42: error: ") and said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not checkout.cache.exists()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"LLM42_PYTHON": "/no/such/python"}, "not Python 3.11 or newer"),
        ({"LLM42_PYTHON": "/bin/false"}, "not Python 3.11 or newer"),
        ({"LLM42_CACHE": "/proc/nowhere"}, "cannot write to /proc/nowhere"),
    ],
)
def test_a_machine_that_lacks_something_is_told_in_one_line(checkout, env, said):
    done = checkout.run("run", "true", **env)
    assert done.returncode == 1
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_first_run_installs_the_pins_and_shows_progress(checkout):
    done = checkout.run("run", "echo", "out")
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert "Downloading alpha-1.whl (123.4 MB)" in done.stderr
    install, register = checkout.pip_calls()
    assert f"install --constraint {checkout.root}/requirements.lock --requirement" in install
    assert "--no-deps" in register and str(checkout.root) in register
    requirements = checkout.env_dir() / "requirements.txt"
    assert requirements.read_text() == "alpha\nbeta\n"


def test_second_run_reuses_everything_silently(checkout):
    first = checkout.env_dir()
    calls = checkout.pip_calls()
    done = checkout.run("run", "printenv", "VIRTUAL_ENV")
    assert done.stdout.strip() == str(first)
    assert done.stderr == ""
    assert checkout.pip_calls() == calls


def test_the_command_runs_in_the_environment_with_this_checkouts_code(checkout):
    done = checkout.run("run", "bash", "-c", 'echo "$PYTHONPATH"; echo "$PATH"; exit 7')
    pythonpath, path = done.stdout.splitlines()
    assert pythonpath == f"{checkout.root}:/before"
    assert path.startswith(f"{checkout.env_dir()}/bin:")
    assert done.returncode == 7


def test_a_command_that_does_not_exist_is_one_line(checkout):
    checkout.env_dir()
    done = checkout.run("run", "no-such-command")
    assert done.returncode == 1
    assert done.stderr == (
        "llm42: error: no such command in the environment or on PATH: no-such-command\n"
    )


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("requirements.lock", "alpha==1", "alpha==2"),
        ("pyproject.toml", '"alpha"', '"alpha", "gamma"'),
        ("pyproject.toml", '"beta"', '"delta"'),
    ],
)
def test_other_pins_make_another_environment(checkout, file, old, new):
    first = checkout.env_dir()
    path = checkout.root / file
    path.write_text(path.read_text().replace(old, new))
    assert checkout.env_dir() != first
    assert first.is_dir()


def test_another_version_of_the_project_only_registers_it_again(checkout):
    first = checkout.env_dir()
    pyproject = checkout.root / "pyproject.toml"
    pyproject.write_text(PYPROJECT.replace('"1"', '"2"'))
    assert checkout.env_dir() == first
    _, register, again = checkout.pip_calls()
    assert again == register


def test_two_checkouts_with_the_same_pins_share_one_environment(checkout, tmp_path):
    other = Checkout(tmp_path / "other", tmp_path)
    assert other.env_dir() == checkout.env_dir()
    assert len(checkout.pip_calls()) == 2


def test_a_half_made_environment_is_thrown_away(checkout):
    env_dir = checkout.env_dir()
    (env_dir / ".complete").unlink()
    (env_dir / "leftover").touch()
    assert checkout.env_dir() == env_dir
    assert not (env_dir / "leftover").exists()
    assert len(checkout.pip_calls()) == 4


def test_an_environment_whose_python_is_gone_is_made_again(checkout):
    env_dir = checkout.env_dir()
    (env_dir / "bin" / "python").unlink()
    checkout.env_dir()
    assert (env_dir / "bin" / "python").exists()


def test_a_failed_installation_tells_why_and_the_next_run_starts_over(checkout):
    failed = checkout.run("run", "echo", "out", FAKE_PIP_FAILS="1")
    assert (failed.returncode, failed.stdout) == (1, "")
    *_, reason, error = failed.stderr.splitlines()
    assert reason == "ERROR: no space left"
    assert error.startswith("llm42: error: pip could not install") and ".log" in error
    assert checkout.run("run", "echo", "out").stdout == "out\n"


def test_a_python_without_venv_is_told(checkout):
    failed = checkout.run("run", "true", FAKE_VENV_FAILS="1")
    assert failed.returncode == 1
    assert "python3-venv" in failed.stderr.splitlines()[-1]


def test_an_interrupted_set_up_is_not_used(checkout):
    process = checkout.start("run", "true", FAKE_PIP_SLEEPS="30")
    wait_for_pip(checkout)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(checkout.cache.glob("env-*/.complete"))


def wait_for_pip(checkout) -> None:
    deadline = time.monotonic() + 60
    while not checkout.pip_calls() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert checkout.pip_calls()


def test_concurrent_set_ups_make_one_environment(checkout, tmp_path):
    gate = tmp_path / "pip may go on"

    def start():
        return checkout.start("run", "printenv", "VIRTUAL_ENV", FAKE_PIP_WAITS=str(gate))

    first = start()
    wait_for_pip(checkout)
    others = [start(), start()]
    try:
        for process in others:
            assert "waiting for it" in process.stderr.readline()
    finally:
        gate.touch()
    outputs = [process.communicate(timeout=60) for process in (first, *others)]
    assert [process.returncode for process in (first, *others)] == [0, 0, 0]
    assert len({out for out, _ in outputs}) == 1
    assert len(checkout.pip_calls()) == 2
    assert "waiting for it" not in outputs[0][1]


def test_test_runs_the_checks_in_order_and_passes_arguments_to_pytest(checkout):
    bin_dir = checkout.env_dir() / "bin"
    for tool in ("ruff", "mypy", "python"):
        (bin_dir / tool).write_text(
            f'#!/usr/bin/env bash\necho {tool} "$@"\n[[ -z ${{FAILS-}} || $1 != $FAILS ]]'
        )
        (bin_dir / tool).chmod(0o755)
    done = checkout.run("test", "-k", "x y")
    assert done.stdout.splitlines() == [
        "ruff check .",
        "ruff format --check .",
        "mypy",
        "python -m pytest -k x y",
    ]
    assert checkout.run("test", FAILS="format").returncode == 1


def test_bench_is_llm42_bench_in_the_environment(checkout):
    command = checkout.env_dir() / "bin" / "llm42"
    command.write_text('#!/usr/bin/env bash\nprintf "%s|" "$@"\nexit 5')
    command.chmod(0o755)
    done = checkout.run("bench", "throughput", "--shares", "0, 50")
    assert done.stdout == "bench|throughput|--shares|0, 50|"
    assert done.returncode == 5
