"""The documentation says what is there: commands, options, modules, links, facts."""

import ast
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from llm42_sglang.cli.main import main
from llm42_sglang.repro.suite import Sampling
from tests.docs.commands import (
    PAGES,
    ROOT,
    WORKFLOW,
    blocks,
    commands,
    complaint,
    workflow_commands,
)
from tests.repro.fake_endpoint import FakeEndpoint

LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
URL = "http://localhost:30000"
CI = (ROOT / "docs" / "ci.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page):
    found = list(commands(page.read_text()))
    assert {one: told for one in found if (told := complaint(one))} == {}


def test_commands_are_found_and_wrong_ones_are_noticed():
    assert sum(len(list(commands(page.read_text()))) for page in PAGES) > 40
    assert complaint("llm42 chekc golden.json") == "no command chekc"
    assert complaint("llm42 check golden.json --jnuit x") == "no option --jnuit"
    assert complaint("scripts/run llm42 bench latency --llm42-grupp 3") == "no option --llm42-grupp"
    assert complaint("scripts/run llm42 serve --any-flag-of-sglang") is None
    assert complaint("scripts/nothing") == "no scripts/nothing"
    page = "Do `llm42 nothing`:\n\n    llm42 a\n    more\n\n```bash\nllm42 b\n```\n"
    assert list(commands(page)) == ["llm42 b", "llm42 a", "llm42 nothing"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    missing = [one for one in LINK.findall(page.read_text()) if not (page.parent / one).exists()]
    assert missing == []


def test_the_module_table_is_that_of_the_tree():
    page = ROOT / "docs" / "contributing.md"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "modules.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout in page.read_text(), "python scripts/modules.py docs/contributing.md"
    assert "|  |" not in done.stdout, "a module without a docstring"


def test_every_fact_of_a_fingerprint_is_in_the_table():
    page = (ROOT / "docs" / "operations.md").read_text()
    told = set(re.findall(r"`(\w+)`", page.partition("| fact |")[2].partition("\n\n")[0]))
    tree = ast.parse((ROOT / "llm42_sglang" / "engine" / "fingerprint.py").read_text())
    (function,) = [n for n in tree.body if getattr(n, "name", "") == "facts_of"]
    (facts,) = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
    assert {key.value for key in facts.keys} == told


def test_every_sampling_name_is_in_the_ci_page():
    words = " ".join(CI.split()).partition("Sampling names are")[2]
    sentence, end, _ = words.partition("A name that is not known")
    assert end
    assert set(Sampling.model_fields) <= set(re.findall(r"`(\w+)`", sentence))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the files that the CI page shows."""
    (tmp_path / "suite.yaml").write_text(blocks(CI, "yaml")[0])
    (tmp_path / "test_answers.py").write_text(blocks(CI, "python")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_ci_page_do_what_it_says(project, capsys):
    """In its order, against a fake server; every one of them succeeds."""
    lines = [line for block in blocks(CI, "bash") for line in block.splitlines()]
    ran = [line.split()[1] for line in lines if line.startswith("llm42 ")]
    assert set(ran) == {"record", "check", "replay", "probe"}
    with FakeEndpoint() as server:
        for line in lines:
            if line.startswith("llm42 "):
                with pytest.raises(SystemExit) as left:
                    main(shlex.split(line.replace(URL, server.url))[1:])
                assert left.value.code == 0, (line, capsys.readouterr())
    for file in ("golden.json", "check.xml", "check.html", "probe.html", "receipts/capital.json"):
        assert (project / file).stat().st_size > 0, file


def test_the_pytest_example_of_the_ci_page_runs(project):
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    lines = [line for block in blocks(CI, "bash") for line in block.splitlines()]
    runs = [shlex.split(line) for line in lines if line.startswith("pytest ")]
    assert len(runs) == 3
    with FakeEndpoint() as server:
        for arguments in runs:
            given = [one.replace(URL, server.url) for one in arguments[1:]]
            command = [sys.executable, "-m", "pytest", "-p", "llm42_sglang.pytest_plugin", *given]
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            nothing_left = 5  # of pytest: the marker deselects both
            assert done.returncode == (nothing_left if "-m" in given else 0), done.stdout


def test_the_workflow_is_one_and_its_commands_exist():
    workflow = yaml.safe_load(WORKFLOW.read_text())
    (job,) = workflow["jobs"].values()
    assert all({"uses", "run"} & set(step) for step in job["steps"])
    found = list(workflow_commands())
    assert {one.split()[1] for one in found if one.startswith("llm42")} == {
        *("serve", "record", "check")
    }
    assert [complaint(one) for one in found] == [None] * len(found)
