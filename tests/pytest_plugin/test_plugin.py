"""The plugin in a user's project: a sample, copied and run in a subprocess, on fake servers."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.repro.fake_endpoint import FakeEndpoint

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).with_name("sample")
FAKE = ROOT / "tests" / "repro" / "fake_endpoint.py"
PLUGIN = "llm42_sglang.pytest_plugin"
# As if it were installed, whatever else this environment has plugins for.
ENV = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
ENV.pop("LLM42_URL", None)


class Project:
    """The sample project in a folder of its own."""

    def __init__(self, folder: Path, source: Path = SAMPLE) -> None:
        self.folder = folder
        self.golden = folder / "test_answers.llm42.json"
        shutil.copytree(source, folder)

    def pytest(self, *arguments: str, **env: str) -> tuple[int, str]:
        """Exit status and what was printed."""
        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=ENV | env, capture_output=True, text=True, timeout=300
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path / "sample")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """The sample with its golden file."""
    project = Project(tmp_path_factory.mktemp("recording") / "sample")
    with FakeEndpoint() as server:
        status, said = project.pytest("--llm42-url", server.url, "--llm42-update")
    assert status == 0, said
    return project.folder


@pytest.fixture
def recorded(tmp_path, recording) -> Project:
    return Project(tmp_path / "sample", recording)


def test_answers_are_recorded_on_demand_and_then_pass(project):
    with FakeEndpoint() as server:
        status, said = project.pytest("--llm42-url", server.url)
        assert status == 1 and "4 failed, 1 passed" in said
        assert "holds no answer of test_capital; pytest --llm42-update records it" in said
        assert not project.golden.exists()
        assert project.pytest("--llm42-url", server.url, "--llm42-update")[0] == 0
        first = project.golden.read_bytes()
        status, said = project.pytest(LLM42_URL=server.url)
        assert status == 0 and "5 passed" in said
        assert project.golden.read_bytes() == first
        assert project.pytest("--llm42-url", server.url, "--llm42-update")[0] == 0
        assert project.golden.read_bytes() == first


def test_a_token_that_flips_in_load_fails_is_explained_and_is_not_recorded(recorded):
    before = recorded.golden.read_bytes()
    with FakeEndpoint("--flips", "load") as server:
        status, said = recorded.pytest("--llm42-url", server.url)
        update, refused = recorded.pytest("--llm42-url", server.url, "--llm42-update")
    assert update == 1 and "llm42: not recorded: FAILED" in refused
    assert recorded.golden.read_bytes() == before
    assert status == 1 and "4 failed, 1 passed" in said
    assert "llm42: FAILED: in load, token 5: recorded" in said
    assert "prompt: 'The capital of France is'" in said
    assert "  alone: the recorded bits" in said and "  in load: differs from token 5 on" in said
    assert "  recorded | " in said and "  in load  | " in said
    assert "if the change is meant: pytest --llm42-update" in said
    assert "Traceback" not in said and "reproducible.py" not in said


def test_answers_of_two_fingerprints_in_one_file(recorded):
    """Facts of the newer recording do not explain the older one's answers."""
    with FakeEndpoint("--weights", "2") as server:
        url = ("--llm42-url", server.url)
        assert recorded.pytest(*url, "--llm42-update", "-k", "capital")[0] == 0
        assert recorded.pytest(*url, "-k", "capital")[0] == 0
        status, said = recorded.pytest(*url, "-k", "cat")
    assert status == 1 and "changed with the fingerprint (nothing was recorded)" in said


@pytest.mark.parametrize(
    ("server", "edit", "arguments", "said"),
    [
        (
            "--weights 2",
            "",
            "",
            "UNKNOWN: the answer changed with the fingerprint (weights changed)",
        ),
        ("--kind stock", "", "", "the answers carry no receipt"),
        ("", "France/Spain", "", "holds the answer to another question"),
        ("", "max_tokens=12/max_token=12", "", "sampling.max_token"),
        ("", "", "--llm42-url=http://127.0.0.1:9", "llm42: no server answers at"),
        ("", "", "-ollm42_conditions=calm", "llm42_conditions: 'calm' is none of alone,"),
        (None, "", "-ollm42_command=false", "llm42: the server ended with status 1"),
    ],
)
def test_what_does_not_pass_is_a_line(recorded, server, edit, arguments, said):
    test = recorded.folder / "test_answers.py"
    test.write_text(test.read_text().replace(*edit.split("/")) if edit else test.read_text())
    with FakeEndpoint(*(server or "").split()) as fake:
        env = {} if server is None else {"LLM42_URL": fake.url}
        status, shown = recorded.pytest("-k", "capital", *arguments.split(), **env)
    assert status == 1 and said in shown
    assert "Traceback" not in shown and "another exception" not in shown


def test_a_half_written_golden_file_is_a_line(recorded):
    half = recorded.golden.read_bytes()[:200]
    recorded.golden.write_bytes(half)
    with FakeEndpoint() as server:
        for more in ([], ["--llm42-update"]):
            status, said = recorded.pytest(f"--llm42-url={server.url}", "-k", "capital", *more)
            assert status == 1 and "is not JSON, or was cut off" in said
            assert recorded.golden.read_bytes() == half


def test_a_server_is_started_once_and_ended(recorded):
    """Once: on one port, of one process. Ended: nothing answers there afterwards."""
    pids = recorded.folder / "pids"
    starter = recorded.folder / "start.sh"
    starter.write_text(f'#!/bin/sh\necho $$ >>{pids}\nexec {sys.executable} {FAKE} "$1"\n')
    starter.chmod(0o755)
    status, said = recorded.pytest("-o", f"llm42_command={starter} {{port}}")
    assert status == 0, said
    (pid,) = pids.read_text().split()
    assert not Path(f"/proc/{pid}").exists()


def test_the_marker_selects_the_tests_that_ask(recorded):
    with FakeEndpoint() as server:
        status, said = recorded.pytest("--llm42-url", server.url, "-m", "not llm42")
        assert status == 0 and "1 passed, 4 deselected" in said
        assert server.requests == []


def test_unused_it_imports_nothing_and_starts_nothing(project):
    (project.folder / "test_answers.py").write_text(
        "import sys\n"
        "def test_nothing_heavy():\n"
        "    assert 'llm42_sglang.pytest_plugin' in sys.modules\n"
        "    heavy = {'torch', 'sglang', 'httpx', 'pydantic', 'yaml', 'llm42_sglang.repro'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    status, said = project.pytest("-o", "llm42_command=false {port}")
    assert status == 0, said


def test_pytest_finds_it_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"llm42": PLUGIN}
