"""The documentation says what is there: commands, options, links, facts, figures."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from llm42_sglang.cli.main import app, main
from llm42_sglang.repro.suite import Sampling
from tests.repro.fake_endpoint import FakeEndpoint

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
# A block is fenced, or indented after an empty line.
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n|\n(?= {4}))+)")
FIRST_WORDS = ("llm42 ", "scripts/", "pytest", "python scripts/")
INLINE = re.compile(r"`((?:llm42 |scripts/|pytest -|python scripts/)[^`]*)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)")  # file, heading
HEADING = re.compile(r"^#+ (.*)", re.M)
HELD_BY = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")
URL = "http://localhost:30000"
CI = (ROOT / "docs" / "ci.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for found, body in FENCED.findall(page) if found == language]


def commands(page: str) -> Iterator[str]:
    """Of a Markdown page: lines of its shell blocks, and commands in a sentence."""
    rest = FENCED.sub("", page)
    yield from commands_in("".join([*blocks(page, "bash"), *INDENTED.findall(rest)]))
    yield from (one.replace("\\|", "|") for one in INLINE.findall(rest))


def commands_in(script: str) -> list[str]:
    """The lines of a shell script that are commands of this project."""
    lines = map(str.strip, script.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.startswith(FIRST_WORDS)]


def complaint(line: str) -> str | None:
    """What does not exist; None if everything does. `a | b` stands for commands of a group."""
    words = shlex.split(re.split("  #| > ", line)[0].replace("scripts/bench", "llm42 bench"))
    if words[0] in ("scripts/run", "python"):
        words = words[1:] or ["llm42"]
    if words[0].startswith("scripts/") and not (ROOT / words[0]).exists():
        return f"no {words[0]}"
    if words[0] != "llm42":
        return None
    group = command = get_command(app)
    serve = command.commands["serve"]
    for word in words[1:]:
        flag = word.strip("[]").partition("=")[0]
        passes_on = command.context_settings.get("ignore_unknown_options")  # to a server
        known = [*command.params, *(serve.params if passes_on else [])]
        if word == "|":
            command = group
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"no command {word}"
            group, command = command, command.commands[word]
        elif flag.startswith("--llm42" if passes_on else "--") and not any(
            flag in option.opts for option in known
        ):
            return f"no option {flag}"
    return None


def dead_links(page: Path) -> list[str]:
    """Of a Markdown page: links to files that are not there, or to headings that they lack."""
    links = LINK.findall(page.read_text())
    files = [(page.parent / file if file else page, anchor) for file, anchor in links]
    return [f"{file}#{at}" for file, at in files if not file.exists() or (at and not has(file, at))]


def has(page: Path, anchor: str) -> bool:
    """Whether a Markdown page has the heading of that anchor, as GitHub writes it."""
    headings = HEADING.findall(page.read_text())
    return anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_and_every_link_leads_somewhere(page):
    text = page.read_text()
    assert {one: told for one in commands(text) if (told := complaint(one))} == {}
    assert dead_links(page) == []


def test_a_link_to_nowhere_is_noticed(tmp_path):
    """Negative control."""
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# It's a heading: one\n")
    page.write_text("[a](other.md#its-a-heading-one) ![b](other.md) [c](#own)\n## Own\n")
    assert dead_links(page) == []
    page.write_text("[a](other.md#two) [b](none.md) [c](#none)")
    assert len(dead_links(page)) == 3


def test_commands_are_found_and_wrong_ones_are_noticed():
    assert sum(len(list(commands(page.read_text()))) for page in PAGES) > 40
    assert complaint("llm42 chekc golden.json") == "no command chekc"
    assert complaint("llm42 check golden.json --jnuit x") == "no option --jnuit"
    assert complaint("scripts/run llm42 bench latency --llm42-grupp 3") == "no option --llm42-grupp"
    assert complaint("scripts/run llm42 serve --any-flag-of-sglang") is None
    assert complaint("scripts/nothing") == "no scripts/nothing"
    page = "Do `llm42 nothing`:\n\n    llm42 a\n    more\n\n```bash\nllm42 b\n```\n"
    assert list(commands(page)) == ["llm42 b", "llm42 a", "llm42 nothing"]


def missing(rows: str) -> list[str]:
    """Files and tests that are named and not there."""
    return [
        f"{file}::{test}"
        for file, test in HELD_BY.findall(rows)
        if not (TESTS / file).is_file() or f"def {test}" not in (TESTS / file).read_text()
    ]


def test_what_holds_each_guarantee_and_its_control_exist():
    page = (ROOT / "docs" / "contributing.md").read_text()
    table = page[page.index("| guarantee |") :].split("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) > 20 and all(len(row.split(" | ")) == 3 for row in rows)
    assert missing(table) == []
    assert missing("`engine/test_natural.py::test_nothing`") and missing("`engine/none.py`")


def test_every_fact_and_every_sampling_name_is_in_its_page():
    page = (ROOT / "docs" / "operations.md").read_text()
    told = set(re.findall(r"`(\w+)`", page.partition("| fact |")[2].partition("\n\n")[0]))
    engine = ROOT / "llm42_sglang" / "engine"
    source = (engine / "start" / "fingerprint.py").read_text()
    facts = "".join(
        source.partition(f"def {name}(")[2].partition("\n    }\n")[0]
        for name in ("facts_of", "package_versions")
    )
    source = (engine / "weights" / "identity.py").read_text()
    named = source.partition("named = {")[2].partition("}")[0]
    assert {
        *re.findall(r'^        "(\w+)": ', facts, re.M),
        *re.findall(r'"(\w+)": ', named),
    } == told
    names, end, _ = CI.partition("Sampling names are")[2].partition("A name that is not")
    assert end and set(Sampling.model_fields) <= set(re.findall(r"`(\w+)`", names))


def test_every_server_option_is_in_the_reference_with_its_default():
    table = REFERENCE.partition("| option | default |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| `(--[\w-]+)[^|]*\| \**(\w+)\** \|", table, re.M)
    options = get_command(app).commands["serve"].params
    shown = [option for option in options if not option.hidden]
    assert dict(told) == {
        option.opts[0]: "off" if option.default in (False, None) else str(option.default)
        for option in shown
    }


def test_the_commands_of_the_ci_page_do_what_it_says(tmp_path, monkeypatch, capsys):
    """In its order, with its files, against a fake server; every one of them succeeds."""
    monkeypatch.chdir(tmp_path)
    suite = (ROOT / "examples" / "suite.yaml").read_text()
    first, agents, _ = blocks(CI, "yaml")
    assert first == suite
    (tmp_path / "suite.yaml").write_text(suite)
    (tmp_path / "agents.yaml").write_text(agents)
    (tmp_path / "test_answers.py").write_text(blocks(CI, "python")[0])
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    pytest_of_ours = [sys.executable, "-m", "pytest", "-p", "llm42_sglang.pytest_plugin"]
    ran = []
    with FakeEndpoint() as server:
        agents = "llm42 record agents.yaml --url URL --out agents.json".replace("URL", URL)
        for line in [agents, *commands_in("".join(blocks(CI, "bash")))]:
            name, *arguments = shlex.split(line.replace(URL, server.url))
            if name == "pytest":
                done = subprocess.run([*pytest_of_ours, *arguments], env=env, capture_output=True)
                nothing_left = 5  # of pytest: the marker deselects both
                assert done.returncode == (nothing_left if "-m" in arguments else 0), done.stdout
            elif name == "llm42":
                with pytest.raises(SystemExit) as left:
                    main(arguments)
                assert left.value.code == 0, (line, capsys.readouterr())
            ran.append(arguments[0] if name == "llm42" else name)
    assert set(ran) >= {"record", "check", "replay", "probe"} and ran.count("pytest") == 3
    for file in ("golden.json", "check.xml", "check.html", "probe.html", "receipts/capital.json"):
        assert (tmp_path / file).stat().st_size > 0, file


def test_the_workflow_is_one_and_its_commands_exist():
    whole = (ROOT / "examples" / "reproducibility.yml").read_text()
    for text, least in ((whole, {"serve", "record", "check"}), (blocks(CI, "yaml")[2], {"check"})):
        (job,) = yaml.safe_load(text)["jobs"].values()
        found = commands_in("\n".join(step.get("run", "") for step in job["steps"]))
        assert {one.split()[1] for one in found} >= least
        assert [complaint(one) for one in found] == [None] * len(found)
