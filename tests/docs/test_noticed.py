"""docs/mutants.md: what its two commands write, and what the page makes of it."""

import json

import pytest

from llm42_sglang.core.ranges import ranges
from scripts import coverage_table, mutants
from scripts.figures import noticed

DIFF = """--- mutation diff ---
--- a/core/pages.py
+++ b/core/pages.py
@@ -1,3 +1,3 @@
 def page(position):
-    return position // T
+    return position * T
"""


def ran(survives: bool, outcome: str = "normal", line: int = 2) -> str:
    """A line of Cosmic Ray's."""
    item = {"job_id": "7", "mutations": [{"start_pos": [line, 4]}]}
    said = {"worker_outcome": outcome, "test_outcome": "survived" if survives else "killed"}
    return json.dumps([item, said | {"diff": DIFF, "output": "it failed"}])


def summary(*lines: str, before: dict | None = None) -> dict:
    return mutants.summary(list(mutants.outcomes("\n".join(lines))), before or {})


def test_survivors_are_listed_with_what_was_changed():
    found = summary(ran(False), ran(True), ran(True, outcome="skipped"))
    (one,) = found.pop("survivors")
    assert found == {"mutants": 2, "killed": 1, "survived": 1}
    assert one == {
        **{"line": 2, "before": "return position // T", "after": "return position * T"},
        "reason": "",
    }


def test_a_reason_stays_with_its_change_wherever_that_has_moved():
    before = summary(ran(True))
    before["survivors"][0]["reason"] = "T is 1"
    (moved,) = summary(ran(True, line=9), before=before)["survivors"]
    assert (moved["line"], moved["reason"]) == (9, "T is 1")


def test_a_mutant_that_could_not_be_tested_is_no_result():
    with pytest.raises(AssertionError, match="it failed"):
        summary(ran(False, outcome="exception"))


def test_every_file_of_core_was_tested_and_every_survivor_has_a_reason():
    files = json.loads(mutants.RESULT.read_text("utf-8"))["files"]
    there = {file.stem for file in mutants.CORE.glob("*.py")} - {"__init__"}
    assert {*files} == there, "scripts/mutants"
    for name, file in files.items():
        source = " ".join((mutants.CORE / f"{name}.py").read_text("utf-8").split())
        assert file["mutants"] == file["killed"] + file["survived"] > 0
        for one in file["survivors"]:
            assert one["reason"], f"{name}.py:{one['line']}: {one['after']}"
            assert one["before"] in source, f"{name}.py has changed: scripts/mutants {name}"


def test_lines_that_were_not_run_are_counted_and_placed():
    def file(lines: int, *missed: int) -> dict:
        counts = {"num_statements": lines, "missing_lines": len(missed)}
        return {"summary": counts, "missing_lines": [*missed]}

    files = {"loop/a.py": file(10, 3, 4, 9), "b.py": file(30), "none.py": file(0)}
    report = {"files": {f"llm42_sglang/engine/{name}": one for name, one in files.items()}}
    found = coverage_table.summary(report, ["pytest"])
    assert found["total"] == {"lines": 40, "missed": 3} and "none.py" not in found["files"]
    page = "\n".join(noticed.coverage(found))
    assert "Of the suite" not in page
    part = "\n".join(noticed.coverage(found | {"counted": ["pytest a.py", "pytest b.py"]}))
    assert "Of the suite" in part and "    pytest a.py\n    pytest b.py" in part
    assert "**92.5 %** of the 40 lines" in page and ranges([3, 4, 9]) == "3-4, 9"
    assert "| `loop/a.py` | 10 | 70.0 % | 3-4, 9 |" in page and "b.py" not in page
