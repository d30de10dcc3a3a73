"""The plugin in a user's project: pytest runs on a copy of the sample, with fake servers."""

import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

# The runs below forget what they import. These two are imported here, so they are imported once.
import httpcore  # noqa: F401
import pytest

import llm42_sglang.pytest_plugin.reproducible  # noqa: F401
from tests.repro.fake_endpoint import FakeEndpoint

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "repro" / "fake_endpoint.py"
PLUGIN = "llm42_sglang.pytest_plugin"
GOLDEN = "test_answers.llm42.json"
UPDATE = "--llm42-update"


@pytest.fixture
def project(pytester, monkeypatch):
    """A function that runs pytest on the sample. It returns the status and the output."""
    shutil.copytree(Path(__file__).with_name("sample"), pytester.path, dirs_exist_ok=True)
    # Only this plugin is loaded, whatever others this environment has.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("LLM42_URL", raising=False)

    def run(*arguments, run=pytester.runpytest_inprocess) -> tuple[int, str]:
        result = run("-p", PLUGIN, "-q", *arguments)
        return result.ret, result.stdout.str() + result.stderr.str()

    return run


@pytest.fixture
def golden(project, pytester) -> Path:
    """The sample's golden file, recorded."""
    with FakeEndpoint() as server:
        status, output = project("--llm42-url", server.url, UPDATE)
    assert status == 0, output
    return pytester.path / GOLDEN


def test_answers_are_recorded_on_demand_and_then_pass(project, golden, monkeypatch):
    first = golden.read_bytes()
    golden.unlink()
    with FakeEndpoint() as server:
        monkeypatch.setenv("LLM42_URL", server.url)
        status, output = project()
        assert status == 1 and "4 failed, 1 passed" in output
        assert "holds no answer of test_capital; pytest --llm42-update records it" in output
        assert not golden.exists()
        for more in ([UPDATE], [], [UPDATE]):
            status, output = project(*more)
            assert status == 0 and "5 passed" in output
            assert golden.read_bytes() == first
        before = len(server.requests)
        status, output = project("-m", "not llm42")  # the marker selects the tests that ask
        assert status == 0 and "1 passed, 4 deselected" in output
        assert len(server.requests) == before


def test_a_token_that_flips_in_load_fails_is_explained_and_is_not_recorded(project, golden):
    before = golden.read_bytes()
    with FakeEndpoint("--flips", "load") as server:
        status, output = project("--llm42-url", server.url)
        update, refused = project("--llm42-url", server.url, UPDATE, "-k", "capital")
    assert update == 1 and "llm42: not recorded: FAILED" in refused
    assert golden.read_bytes() == before
    assert status == 1 and "4 failed, 1 passed" in output
    assert "llm42: FAILED: in load, token 5: recorded" in output
    assert "prompt: 'The capital of France is'" in output
    assert "  alone: the recorded bits" in output and "  in load: differs from token 5 on" in output
    assert "  recorded | " in output and "  in load  | " in output
    assert "if the change is meant: pytest --llm42-update" in output
    assert "Traceback" not in output and "reproducible.py" not in output


def test_answers_of_two_fingerprints_in_one_file(project, golden):
    """Each answer is compared with the facts of its own recording."""
    with FakeEndpoint("--weights", "2") as server:
        url = ("--llm42-url", server.url)
        assert project(*url, UPDATE, "-k", "capital")[0] == 0
        assert project(*url, "-k", "capital")[0] == 0
        status, output = project(*url, "-k", "cat")
    assert status == 1 and "changed with the fingerprint (weights changed)" in output


@pytest.mark.parametrize(
    ("server", "edit", "arguments", "message"),
    [
        ("--weights 2", "", "", "UNKNOWN: the answer changed with the fingerprint (weights"),
        ("", "test_answers.py/France/Spain", "", "holds the answer to another question"),
        ("", "test_answers.py/max_tokens=12/max_token=12", "", "sampling.max_token"),
        ("", f'{GOLDEN}/"cases": [/', "", "is not JSON, or was cut off"),
        ("", f'{GOLDEN}/"cases": [/', UPDATE, "is not JSON, or was cut off"),
        ("", "", "--llm42-url=http://127.0.0.1:9", "llm42: no server answers at"),
        ("", "", "-ollm42_conditions=calm", "llm42_conditions: 'calm' is none of alone,"),
        (None, "", "-ollm42_command=false", "llm42: the server ended with status 1"),
    ],
)
def test_what_does_not_pass_is_a_line(
    project, golden, monkeypatch, server, edit, arguments, message
):
    if edit:
        file, old, new = edit.split("/")
        path = golden.with_name(file)
        path.write_text(path.read_text().replace(old, new))
    before = golden.read_bytes()
    with FakeEndpoint(*(server or "").split()) as fake:
        if server is not None:
            monkeypatch.setenv("LLM42_URL", fake.url)
        status, output = project("-k", "capital", *arguments.split())
    assert status == 1 and message in output
    assert "Traceback" not in output and "another exception" not in output
    assert golden.read_bytes() == before


def test_a_server_is_started_once_and_ended(project, golden):
    """One process is started, and it does not exist any more afterwards."""
    pids, starter = golden.with_name("pids"), golden.with_name("start.sh")
    starter.write_text(f'#!/bin/sh\necho $$ >>{pids}\nexec {sys.executable} {FAKE} "$1"\n')
    starter.chmod(0o755)
    status, output = project("-o", f"llm42_command={starter} {{port}}")
    assert status == 0, output
    (pid,) = pids.read_text().split()
    assert not Path(f"/proc/{pid}").exists()


def test_a_terminated_pytest_ends_its_server(project, golden):
    """SIGTERM alone would end pytest at once, and the server would go on."""
    pids, starter = golden.with_name("pids"), golden.with_name("start.sh")
    starter.write_text(f"#!/bin/sh\necho $$ >>{pids}\nexec sleep 60\n")
    starter.chmod(0o755)
    options = ("-p", PLUGIN, "-q", "-o", f"llm42_command={starter} {{port}}")
    with subprocess.Popen([sys.executable, "-m", "pytest", *options], cwd=golden.parent) as command:
        while not (pids.exists() and pids.read_text()) and command.poll() is None:
            time.sleep(0.05)
        command.terminate()
        # Python ends by the signal if it came inside an `exec`, as of a dataclass that is imported.
        assert command.wait(30) in (pytest.ExitCode.INTERRUPTED, -signal.SIGINT)
    assert not Path(f"/proc/{pids.read_text().strip()}").exists()


def test_unused_it_imports_nothing_and_starts_nothing(project, pytester):
    (pytester.path / "test_answers.py").write_text(
        "import sys\n"
        "def test_nothing_heavy():\n"
        "    assert 'llm42_sglang.pytest_plugin' in sys.modules\n"
        "    heavy = {'torch', 'sglang', 'httpx', 'pydantic', 'yaml', 'llm42_sglang.repro'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    run = pytester.runpytest_subprocess
    status, output = project("-o", "llm42_command=false {port}", run=run)
    assert status == 0, output


def test_pytest_finds_it_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"llm42": PLUGIN}
