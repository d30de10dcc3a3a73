"""The acceptance run on pretended GPUs and servers: what passes, what does not, what is written."""

import ast
import inspect
import json
import sys
from pathlib import Path

import pytest
import typer.main

from llm42_sglang.cli.acceptance import main, matrix, plan, stages
from llm42_sglang.cli.acceptance.stages import Site
from llm42_sglang.cli.acceptance.verdict import Verdict
from llm42_sglang.cli.bench import app as bench
from llm42_sglang.cli.demo import Answer
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.hardware import Gpu
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.engine import certify

FAKE = str(Path(__file__).parents[1] / "fake_server.py")
HOPPER = Gpu("Pretended H100", (9, 0), 80.0)
CERTIFIED = (
    "llm42: certified in 2.1 s: A1, A2 and A3 hold bitwise over 31 passes, 1200 rows of logits "
    "and of KV in each of 30 layers; passes of 1 or 8 slots give the same bits, "
    "from CUDA graphs those of 8, none carries decode rows"
)
BROKEN = "llm42: error: assumption A2 (other slots) does not hold on this model and backend"


@pytest.fixture
def run(tmp_path):
    """Runs the command on a pretended machine; returns (exit status, the JSON it wrote)."""

    def run(*arguments: str, serving=(), says=CERTIFIED, broken=None, bench=None, gpus=(HOPPER,)):
        def server(backend: str, fault: str | None) -> ServerProcess:
            options = ["--says", says, *serving]
            if fault:
                options = broken or ["--says", BROKEN, "--exit", "3"]
            argv = [sys.executable, FAKE, "{port}", *options]
            return ServerProcess(argv=argv, log_path=tmp_path / f"{backend}-{fault}.log")

        site = Site(lambda: list(gpus), server, bench or (lambda benchmark: {"tokens": 1}))
        out = tmp_path / "out"
        status = main.main(
            ["--out", str(out), "--new-tokens", "8", *arguments], lambda *given: site
        )
        written = out / "acceptance.json"
        return status, json.loads(written.read_text()) if written.is_file() else None

    return run


def verdicts(written: dict) -> dict[str, str]:
    return {stage["stage"]: stage["verdict"] for stage in written["stages"]}


def test_without_a_gpu_one_line_and_a_status_of_its_own(run, capsys):
    status, written = run(gpus=())
    assert (status, written) == (main.NO_GPU, None)
    said = capsys.readouterr().err
    assert said.startswith("llm42: no NVIDIA GPU here") and said.count("\n") == 1


def test_without_a_gpu_the_command_itself_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(main, "gpus", list)
    assert main.main(["--out", str(tmp_path / "out")]) == main.NO_GPU
    assert not (tmp_path / "out").exists()


def test_everything_passes(run, tmp_path):
    status, written = run("--backends", "triton", "--quick")
    assert status == main.ACCEPTED and written["passed"]
    names = [
        f"bench {benchmark.name}"
        for benchmark in plan.benchmarks(None, quick=True, backend="flashinfer")
    ]
    assert list(verdicts(written)) == [
        "triton: certification",
        "triton: determinism matrix",
        "triton: a broken pass is refused",
        *names,
    ]
    assert written["environment"]["gpus"][0]["name"] == HOPPER.name
    certified, determinism, *_ = written["stages"]
    said = ("passes", "widths", "replayed")
    assert [certified["data"][key] for key in said] == ["31", "1 or 8", "8"]
    assert determinism["data"]["control_diverged"] == len(matrix.PROMPTS)
    text = (tmp_path / "out" / "acceptance.md").read_text()
    assert "| triton: determinism matrix | passed |" in text and "stages passed" in text


@pytest.mark.parametrize(
    ("how", "stage", "verdict", "finding"),
    [
        ({"serving": ["--broken", "diverges"]}, "determinism matrix", "FAILED", "48 differ"),
        ({"serving": ["--broken", "unverified"]}, "determinism matrix", "FAILED", "64 not verif"),
        ({"says": "nothing"}, "certification", "FAILED", "has not said"),
        ({"serving": ["--exit", "3"], "says": BROKEN}, "certification", "FAILED", "assumption A2"),
        ({"broken": ["--says", CERTIFIED]}, "a broken pass is refused", "FAILED", "served with"),
        (
            {"broken": ["--says", "CUDA out of memory", "--exit", "1"]},
            "a broken pass is refused",
            "UNKNOWN",
            "ended with status 1",
        ),
    ],
)
def test_what_goes_wrong_is_told_and_the_status_says_so(run, how, stage, verdict, finding):
    status, written = run("--backends", "fa3", "--no-bench", **how)
    assert status == main.NOT_ACCEPTED and not written["passed"]
    (told,) = (s for s in written["stages"] if s["stage"] == f"fa3: {stage}")
    assert told["verdict"] == verdict
    assert finding in told["finding"]


def test_a_backend_that_fails_does_not_end_the_run(run):
    def bench(benchmark):
        raise UserError("status 1; see the log")

    status, written = run("--backends", "fa3", "triton", "--quick", says="x", bench=bench)
    assert status == main.NOT_ACCEPTED
    assert sum("bench" in name for name in verdicts(written)) == 3
    assert {v for name, v in verdicts(written).items() if "bench" in name} == {"FAILED"}
    assert verdicts(written)["triton: determinism matrix"] == "passed"


def answers(*ids: int, verified: bool = True) -> list[Answer]:
    return [Answer((1, i), {"verified": verified}) for i in ids]


@pytest.mark.parametrize(
    ("company", "control", "verdict"),
    [
        (answers(1, 2), answers(1, 3), Verdict.PASSED),
        (answers(1, 2), answers(1, 2), Verdict.UNKNOWN),  # nothing could have gone wrong
        (answers(1, 3), answers(1, 3), Verdict.FAILED),
        (answers(1, 2, verified=False), answers(1, 3), Verdict.FAILED),
    ],
)
def test_the_matrix_is_judged(company, control, verdict):
    by_condition = {matrix.REFERENCE: answers(1, 2), "in company": company}
    result = matrix.judge({"greedy": by_condition}, [answers(1, 2), control])
    assert result.verdict is verdict


def test_a_difference_is_named():
    by_condition = {matrix.REFERENCE: answers(1, 2), "in company": answers(1, 3)}
    result = matrix.judge({"sampled": by_condition}, [answers(1), answers(2)])
    (difference,) = result.data["differences"]
    assert difference == {"kind": "sampled", "condition": "in company", "prompt": 1, "token": 1}


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((8, 0), ["flashinfer", "fa3", "triton"]),
        ((9, 0), ["flashinfer", "fa3", "fa4", "triton"]),
        ((10, 0), ["flashinfer", "fa4", "triton"]),
    ],
)
def test_backends_fit_the_gpu(capability, expected):
    assert plan.backends_for(HOPPER._replace(capability=capability)) == expected


def test_what_a_certified_server_logs_is_what_is_looked_for():
    """The format is certify's, filled in."""
    (call,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(certify.certify)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logger.info"
    )
    line = ast.literal_eval(call.args[0]) % (
        *(2.1, 31, 1200, 30, "1 or 8"),
        "from CUDA graphs those of 8",
        "none carries decode rows",
    )
    assert line == CERTIFIED
    assert stages.CERTIFIED.search(f"[2026] INFO: {line}")


@pytest.mark.parametrize(
    "benchmark", plan.benchmarks("some/folder", quick=False, backend="fa3"), ids=str
)
def test_the_suite_names_benchmarks_and_options_that_exist(benchmark):
    name, *arguments = benchmark.arguments
    command = typer.main.get_command(bench.app).commands[name]
    context = command.make_context(name, arguments)
    # What is left goes to the servers.
    assert context.args == [*plan.TOGETHER, "--attention-backend", "fa3"]


def test_a_benchmark_runs_in_a_process_of_its_own(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "print(*sys.argv[1:])\n"
        "sys.exit(1) if 'latency' in sys.argv else None\n"
        "open(sys.argv[-1], 'w').write('{\"tokens\": 5}')\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(main.sys, "executable", str(python))
    good = plan.Benchmark("throughput mixed", ("throughput", "--mix", "mixed"))
    assert main.run_bench(good, tmp_path) == {"tokens": 5}
    log = (tmp_path / "bench-throughput-mixed.log").read_text()
    assert log.startswith("-m llm42_sglang.cli.main bench throughput --mix mixed --out ")
    with pytest.raises(UserError, match=r"status 1; see .*bench-latency\.log"):
        main.run_bench(plan.Benchmark("latency", ("latency",)), tmp_path)


def test_the_real_site_starts_our_server_on_the_backend(tmp_path):
    site = main.real_site("some/folder", tmp_path, ["--dtype", "bfloat16"])
    server = site.server("fa3", "a2")
    assert server.argv[-6:] == [
        "--model-path",
        "some/folder",
        "--attention-backend",
        "fa3",
        "--dtype",
        "bfloat16",
    ]
    assert server.env["LLM42_FAULT"] == "a2"
    assert "LLM42_FAULT" not in site.server("fa3", None).env
