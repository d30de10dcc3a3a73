"""Mutation tests: does a test fail for every small change of `llm42_sglang/core`?

Cosmic Ray makes the changes, one at a time, in a copy of the files, and runs the tests of the
changed file. A mutant that no test notices is a survivor. A test must be written for it, or
docs/results/mutants.json must say why none can be: `reason` there is written by hand, and stays
when the command runs again.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "llm42_sglang" / "core"
RESULT = ROOT / "docs" / "results" / "mutants.json"
COSMIC_RAY = "cosmic-ray==8.7.0"  # uv installs it where it disturbs nobody
TIMEOUT_S = 60  # of the tests of one mutant; one that takes longer is noticed

COPIED = (
    "llm42_sglang/__init__.py",
    "llm42_sglang/core",
    "tests/__init__.py",
    "tests/core",
    "docs/receipts/vectors.json",
)
# Besides test_FILE.py and test_values.py. The first test that fails ends the run, so slow ones come
# last.
MORE_TESTS = {
    "encoding": ("vectors",),
    "packing": ("protocol_stateful",),
    "pages": ("track", "packing", "protocol_stateful"),
    "receipts": ("vectors",),
    "track": ("protocol_stateful",),
    "verdict": ("track", "protocol_stateful"),
}
# Kinds of mutants that are not made, by names of Cosmic Ray's operators, and why.
LEFT_OUT = {
    r"core/ReplaceBinaryOperator_BitOr_": "raises at once, at types and at dictionaries",
    r"core/ReplaceBinaryOperator_.*_(Pow|LShift|RShift|Bit\w+|Mod|Div)$": (
        "`+`, `-`, `*` and `//` in place of each other are enough"
    ),
    r"core/ReplaceComparisonOperator_(?!Is).*_Is(Not)?$": (
        "CPython has one object for each small number"
    ),
    r"core/ReplaceComparisonOperator_Is(Not)?_(?!Is)": "`None` equals itself and has no order",
}
# A test that fails has done its part: no search for a smaller example.
CONFTEST = """
from hypothesis import Phase, settings
settings.register_profile(
    "mutants", derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutants")
"""


def main(names: Sequence[str]) -> int:
    """Test these files, all by default, write the result, and return the exit status."""
    known = [file.stem for file in sorted(CORE.glob("*.py"), key=_size) if file.stem != "__init__"]
    if unknown := {*names} - {*known}:
        sys.exit(f"llm42: error: core has no file {min(unknown)}; choose from {', '.join(known)}")
    for name in names or known:
        with TemporaryDirectory() as folder:
            outcomes = _mutate(name, Path(folder))
        result = _read()
        result["files"][name] = summary(outcomes, result["files"].get(name, {}))
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
        counts = {key: value for key, value in result["files"][name].items() if key != "survivors"}
        print(f"{name}: {counts}", flush=True)
    unexplained = list(_unexplained(_read()))
    print("\n".join(unexplained))
    return 1 if unexplained else 0


def summary(outcomes: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of one source file. before: what it said; its reasons are kept.

    outcomes: of each mutant whether it `survived`, the `line`, and its text `before` and `after`.
    """
    said = {_change(one): one["reason"] for one in before.get("survivors", ())}
    survivors = [
        {"line": one["line"], "before": one["before"], "after": one["after"]}
        | {"reason": said.get(_change(one), "")}
        for one in outcomes
        if one["survived"]
    ]
    survivors.sort(key=lambda one: (one["line"], one["after"]))
    killed = len(outcomes) - len(survivors)
    counts = {"mutants": len(outcomes), "killed": killed, "survived": len(survivors)}
    return counts | {"survivors": survivors}


def _change(one: Mapping[str, Any]) -> tuple[str, str]:
    return one["before"], one["after"]


def _size(file: Path) -> int:
    return file.stat().st_size


def _read() -> dict[str, Any]:
    files = json.loads(RESULT.read_text("utf-8"))["files"] if RESULT.exists() else {}
    head = {"command": "scripts/mutants", "tool": COSMIC_RAY, "left_out": LEFT_OUT}
    return head | {"files": files}


def _unexplained(result: Mapping[str, Any]) -> Iterator[str]:
    for name, file in result["files"].items():
        for one in file["survivors"]:
            if not one["reason"]:
                yield f"{name}.py:{one['line']}: {one['before']}  ->  {one['after']}"


def _mutate(name: str, folder: Path) -> list[dict[str, Any]]:
    """Make all mutants of one file in the folder; what became of each."""
    for path in map(Path, COPIED):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        copy(ROOT / path, folder / path)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "config.toml").write_text(_config(name))
    _tests_pass(name, folder)
    _cosmic_ray(folder, "cosmic-ray", "init", "config.toml", "session.sqlite")
    _cosmic_ray(folder, "cr-filter-operators", "session.sqlite", "config.toml")
    _cosmic_ray(folder, "cosmic-ray", "exec", "config.toml", "session.sqlite")
    dump = _cosmic_ray(folder, "cosmic-ray", "dump", "session.sqlite")
    return list(outcomes(dump))


def outcomes(dump: str) -> Iterator[dict[str, Any]]:
    """What became of each mutant, from lines of Cosmic Ray: a pair of a mutation and its result."""
    for line in dump.splitlines():
        item, result = json.loads(line)
        if result["worker_outcome"] == "skipped":
            continue
        assert result["worker_outcome"] == "normal", result["output"]
        (mutation,) = item["mutations"]
        yield {
            "survived": result["test_outcome"] == "survived",
            "line": mutation["start_pos"][0],
            **_texts(result["diff"]),
        }


def _texts(diff: str) -> dict[str, str]:
    """The changed lines before and after; joined, if the mutation spans several."""
    hunk = diff.partition("\n@@")[2].splitlines()[1:]
    before, after = (
        " ".join(line[1:].strip() for line in hunk if line.startswith(sign)) for sign in "-+"
    )
    return {"before": before, "after": after}


def _tests(name: str) -> list[str]:
    return [f"tests/core/test_{one}.py" for one in (name, "values", *MORE_TESTS.get(name, ()))]


def _config(name: str) -> str:
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {' '.join(_tests(name))}"
    return f"""
[cosmic-ray]
module-path = "llm42_sglang/core/{name}.py"
timeout = {TIMEOUT_S}
excluded-modules = []
test-command = {json.dumps(command)}
distributor.name = "local"
filters.operators-filter.exclude-operators = {json.dumps([*LEFT_OUT])}
"""


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _tests_pass(name: str, folder: Path) -> None:
    """Without a mutation the tests must pass, or every mutant would count as noticed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_tests(name)]
    subprocess.run(command, cwd=folder, env=_environment(folder), check=True, capture_output=True)


def _cosmic_ray(folder: Path, *command: str) -> str:
    whole = ["uv", "tool", "run", "--quiet", "--from", COSMIC_RAY, *command]
    environment = _environment(folder)
    ran = subprocess.run(whole, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE)
    return ran.stdout.decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
