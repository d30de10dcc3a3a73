"""What a process of a server has run is counted, though SIGKILL ends it and its parent too."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# As `tests/engine/preloaded.py` makes servers: a fork server, a first process, and a second one.
PROGRAM = """
import multiprocessing, os, signal, time


def end():
    time.sleep({seconds})
    os.kill(os.getpid(), signal.SIGKILL)


def scheduler():
    from llm42_sglang.core.ranges import ranges
    ranges([1, 2])
    end()


def server():
    multiprocessing.set_start_method("fork", force=True)
    process = multiprocessing.Process(target=scheduler)
    process.start()
    process.join()
    from llm42_sglang.core.pages import page_index
    page_index(1, 2)
    end()


if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(target=server)
    process.start()
    process.join()
"""


def lines_run(folder: Path, seconds: float) -> dict[str, int]:
    """The lines of two files of core that were counted. seconds: from the last one to the end."""
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM.format(seconds=seconds))
    config = ROOT / "pyproject.toml"
    env = os.environ | {"COVERAGE_FILE": str(folder / "data")}
    measured = env | {"COVERAGE_PROCESS_START": str(config)}
    program = [sys.executable, "program.py"]
    subprocess.run(program, env=measured, timeout=60, cwd=folder, check=True)
    coverage = [sys.executable, "-m", "coverage"]
    for command in ("combine", "json"):  # the second one fails if nothing was counted
        subprocess.run([*coverage, command, "--quiet", f"--rcfile={config}"], env=env, cwd=folder)
    report = folder / "coverage.json"
    files = json.loads(report.read_text())["files"] if report.exists() else {}
    counted = {Path(name).stem: file["summary"]["covered_lines"] for name, file in files.items()}
    return {name: counted.get(name, 0) for name in ("ranges", "pages")}


def test_lines_of_processes_that_are_killed_are_counted(tmp_path):
    counted = lines_run(tmp_path / "half a second later", 1.5)
    assert counted["ranges"] == 6 and counted["pages"] > 6
    assert lines_run(tmp_path / "at once", 0) == {"ranges": 0, "pages": 0}  # negative control
