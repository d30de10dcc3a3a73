"""Pages have the figures of the files in docs/results, and every file has its place."""

import json
from pathlib import Path

import pytest

from scripts import results

MACHINE = {"cpu": "Abacus", "cores": 2, "memory_gib": 8, "torch": "2.0", "sglang": "0.5"}


def throughput(in_flight: int, flags: str = "", **more) -> dict:
    """As `llm42 bench throughput` writes it: two rounds of two shares."""
    ratios = {"0": [1.0, 1.1], "100": [0.8, 0.9]}
    workload = {"model": "Tiny-0123abcd", "prompt_tokens": "9", "new_tokens": "8", "rounds": 2}
    speeds = {"0": [10, 11], "100": [8, 9]}
    return {
        "command": f"llm42 bench throughput --out /x --in-flight {in_flight} {flags}".strip(),
        "hardware": MACHINE,
        "workload": workload | {"requests": 7, "in_flight": in_flight, "flags": f"--x 1 {flags}"},
        "ratios_to_stock": ratios,
        "ratio_to_stock": {"0": 1.05, "100": 0.85},
        "tokens_per_s": {"stock": {"0": [10, 10], "100": [10, 10]}, "llm42": speeds, "serial": []},
        "recompute_rate_by_share": {"0": None, "100": 0.25},
        "rollbacks": 3,
        "speedup_over_serial": None,
        **more,
    }


@pytest.fixture
def write(tmp_path):
    """Write a file of a result; returns what docs/performance.md would say."""

    def write_one(name: str, result: dict) -> str:
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
        return results.figures(tmp_path)

    return write_one


def real(name: str) -> dict:
    """A file of docs/results."""
    return json.loads((results.RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", results.PAGES, ids=lambda path: path.name)
def test_a_page_has_the_figures_of_the_files(path: Path):
    page = path.read_text(encoding="utf-8")
    text = results.PAGES[path]()
    assert results.filled(page, text) == page, "scripts/run python scripts/results.py"
    assert text and results.unused() == set()


def test_another_figure_in_a_file_shows(write):
    """Negative control."""
    result = real("throughput")
    result["ratio_to_stock"]["100"] += 0.1
    changed = write("throughput", result)
    assert changed and changed not in results.figures()


def test_a_file_without_a_place_is_found(tmp_path, write):
    write("throughput", throughput(16))
    assert results.unused(tmp_path) == set()
    write("thoughput", throughput(16))
    assert results.unused(tmp_path) == {"thoughput.json"}


def test_rounds_and_canonical_steps_show_where_a_file_has_them(write):
    page = write("throughput", throughput(16))
    assert "Tiny; 16 in flight; prompts of 9 tokens, 8 new tokens; 2 rounds of 7 requests" in page
    assert "| 100 % | **0.850** | 0.800, 0.900 | 8.5 | 10.0 | 25.0 % |" in page
    assert "canonical steps" not in page and "one request at a time" not in page
    steps = {"canonical_step_rate_by_share": {"0": None, "100": 0.992}}
    faster = {"speedup_over_serial": 4, "speedup_at_share": "100"}
    page = write("throughput", throughput(16, **steps, **faster))
    assert "| 8.5 | 10.0 | 99.2 % | 25.0 % |" in page and "At 100 % it is **4.00** times" in page


def test_other_loads_and_flags_share_a_table(write):
    write("throughput_4", throughput(4))
    write("throughput_1", throughput(1))
    page = write("throughput_audit", throughput(16, "--llm42-audit 1 --y"))
    rows = [line for line in page.splitlines() if line.startswith("| ") and "100 %" in line]
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| 1", "8", ""],
        ["| 4", "8", ""],
        ["| 16", "8", "--llm42-audit 1"],
    ]
    assert page.count("    llm42 bench throughput --in-flight") == 3 and page.count("Abacus") == 1
    assert page.count("2 rounds of 7 requests, 3 rollbacks") == 6


def test_loads_in_turns_share_a_table_the_largest_first(write):
    steps = {"canonical_step_rate_by_share": {"0": None, "100": 0.992}}
    write("turns_2", throughput(2, **steps))
    page = write("turns", throughput(16, **steps))
    rows = [line for line in page.splitlines() if line.startswith("| ") and "100 %" in line]
    measured = "2 rounds of 7 requests, 3 rollbacks | 100 % | **0.850** | 0.800, 0.900"
    assert rows == [f"| {n} | {measured} | 99.2 % | 25.0 % |" for n in (16, 2)]


def test_the_readme_is_told_spread_steps_and_rollbacks(tmp_path, write):
    steps = {"canonical_step_rate_by_share": {"0": None, "100": 0.5}}
    write("turns", throughput(16, canonical_step_rate=0.5, **steps))
    write("turns_2", throughput(2, canonical_step_rate=0.9, **steps))
    write("latency", real("latency"))
    said = results.summary(tmp_path)
    assert len(said.splitlines()) == 5 and "**0.85** with 100 %" in said
    assert "the ratio is **0.85** with 2 in flight." in said
    assert "throughput gave 0.80 to 1.10. Canonical steps gave 50.0 %" in said
    assert said.endswith("Rollbacks in the runs of throughput: 3 with 16, 3 with 2 in flight.")


def test_architectures_hold_or_one_line_says_why(tmp_path):
    def found(verdict: str, reason: str | None = None, flags: str = "", **more) -> dict:
        return {
            **{"architecture": "A", "verdict": verdict, "reason": reason, "flags": flags},
            **{"certificate": None, "flips": None, "cause": None, **more},
        }

    counts = {"verified": 9, "flips": 1, "rolled_back": 4}
    models = {
        "a": found("holds", certificate={"step_sizes": [2, 3]}, flips={"alone": counts}),
        "b": found("refused", "no | sinks", "--flag"),
        "c": found("fails", "KeyError: 'x'", cause="it has no y"),
    }
    (tmp_path / "models.json").write_text(json.dumps({"hardware": MACHINE, "models": models}))
    page = results.architectures(tmp_path)
    assert "Of 3 architectures 1 hold, 1 are refused, and 1 fail." in page
    assert page.splitlines()[-3:] == [
        "| `A` | holds | 2-3 | alone 1 of 9 |  |",
        "| `A` | refused: no \\| sinks | - | - | `--flag` |",
        "| `A` | fails: KeyError: 'x' (it has no y) | - | - |  |",
    ]
    assert results.unused(tmp_path) == set()


def test_nodes_say_what_was_wrong(tmp_path):
    start = {"what": "node 1 has another T", "outcome": "serves", "ends": [None, 1]}
    start |= {"said": ["a | b"], "wrong": ["it serves"]}
    layout = {"flags": "--tp-size 2", "nodes": 2, "outcome": "holds", "said": [], "wrong": []}
    found = {"command": "scripts/nodes --out x", "hardware": MACHINE, "interrupted": False}
    found |= {"starts": [start], "layouts": [layout], "wrong": ["node 1 has another T: it serves"]}
    (tmp_path / "nodes.json").write_text(json.dumps(found))
    page = results.starts(tmp_path)
    assert "    scripts/nodes\n" in page and "happened than must: **1**." in page
    assert "| node 1 has another T | **wrong:** serves | runs, 1 | a \\| b |" in page
    assert "| `--tp-size 2` | 2 | holds |" in page and "- node 1 has another T: it serves" in page
