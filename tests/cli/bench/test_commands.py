"""The commands from end to end on fake servers: tables, last line, files, plots."""

import json

import pytest

from llm42_sglang.cli.main import main

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = ["--prompt-tokens", "4-9", "--new-tokens", "12"]


@pytest.fixture
def bench(capsys, model, tmp_path):
    """Run `llm42 bench`; returns its last line, parsed, and everything else it printed."""

    def run(command: str, *arguments: str, folder: bool = True) -> tuple[dict, str]:
        more = ["--model", str(model)] if folder else []
        page = tmp_path / "report.html"
        files = ["--out", str(tmp_path / "out.json"), "--report", str(page)]
        with pytest.raises(SystemExit) as left:
            main(["bench", command, *arguments, *more, *files])
        printed = capsys.readouterr()
        assert left.value.code == 0, printed.err
        *shown, last = printed.out.splitlines()
        result = json.loads(last)
        assert json.loads((tmp_path / "out.json").read_text()) == result
        assert f"llm42 bench {command}" in page.read_text()
        assert ("<svg" in page.read_text()) == (command not in ("beside", "invariance"))
        assert not list(tmp_path.glob(".*.new"))
        return result, "\n".join(shown)

    return run


def refused(capsys, *arguments: str) -> str:
    """What the one line on stderr says."""
    with pytest.raises(SystemExit) as left:
        main(["bench", *arguments])
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_throughput_finds_the_faster_server(bench, fakes, tmp_path):
    fakes["stock"] += ["--token-s", "0.005"]
    fakes["llm42"] += ["--token-s", "0.05"]
    fakes["serial"] += ["--token-s", "0.005"]
    fakes["fixed_shape"] += ["--token-s", "0.5"]
    sizes = ["--requests", "12", "--in-flight", "4", "--rounds", "2", "--serial-requests", "4"]
    sizes += ["--fixed-requests", "4"]
    plot = tmp_path / "plot.png"
    result, shown = bench(
        "throughput", "--shares", "0,50", *sizes, *SMALL, "--plot", str(plot), "--llm42-group", "4"
    )
    assert list(result["ratio_to_stock"]) == ["0", "50"]
    assert 0 < result["ratio_to_stock"]["0"] < 1
    assert len(result["ratios_to_stock"]["50"]) == 2
    assert result["speedup_over_serial"] > 0
    assert result["speedup_over_fixed_shape"] > 1
    assert result["speedup_at_share"] == "50"
    assert result["rollbacks"] == 2 * 6  # the fake's receipts: one each, of 3 tokens
    assert result["recompute_rate"] == pytest.approx(3 / (12 + 3))
    assert result["recompute_rate_by_share"] == {"0": None, "50": pytest.approx(3 / 15)}
    assert result["deterministic_requests_by_share"] == {"0": 0, "50": 12}
    assert result["workload"]["flags"] == "--max-total-tokens 20000 --llm42-group 4"
    assert shown.index("hardware: ") < shown.index("workload: ") < shown.index("ratio")
    assert "in_flight 4" in shown
    assert "one at a time" in shown and "all in the fixed shape" in shown
    assert plot.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("option", "server", "label"),
    [
        ("--serial-requests", "serial", "one at a time"),
        ("--fixed-requests", "fixed_shape", "all in the fixed shape"),
    ],
)
def test_throughput_without_a_slow_server(bench, fakes, option, server, label):
    fakes[server] += ["--exit", "1"]  # it would not start
    sizes = ["--requests", "6", "--in-flight", "2", "--rounds", "1", option, "0"]
    result, shown = bench("throughput", "--shares", "100", *sizes, *SMALL)
    assert result[f"speedup_over_{server}"] is None
    assert label not in shown


def test_latency_tells_kinds_apart(bench, fakes, tmp_path):
    fakes["stock"] += ["--token-s", "0.005"]
    fakes["llm42"] += ["--token-s", "0.025"]
    plot = tmp_path / "plot.png"
    sizes = ["--requests", "6", "--in-flight", "3", "--rounds", "2"]
    sizes += ["--loads", "closed,staggered,40,50%"]
    result, shown = bench("latency", "--shares", "50,100", *sizes, *SMALL, "--plot", str(plot))
    loads = {"3 in flight", "3 in flight (staggered)", "40/s", "50 % of stock"}
    assert set(result["p99_ttft_ratio"]) == set(result["p99_itl_ordinary_ratio"]) == loads
    for load in loads:
        assert result["p99_itl_ordinary_ratio"][load]["100"] is None  # nobody is ordinary
    points = {(p["load"], p["share"], p["server"], p["kind"]): p for p in result["points"]}
    assert len(points) == 4 * 2 * (2 + 1)
    for load in loads:
        ours, stock = (points[load, 50, name, "ordinary"] for name in ("llm42", "stock"))
        assert ours["e2e"]["p50"] > stock["e2e"]["p50"]
        ratio = ours["itl"]["p99"] / stock["itl"]["p99"]
        assert result["p99_itl_ordinary_ratio"][load]["50"] == ratio
        ours, stock = (points[load, 100, name, "deterministic"] for name in ("llm42", "stock"))
        ratio = ours["ttft"]["p99"] / stock["ttft"]["p99"]
        assert result["p99_ttft_ratio"][load]["100"] == ratio
    ours = points["40/s", 50, "llm42", "deterministic"]
    assert ours["requests"] == 6 and ours["ttft"]["count"] == 6
    assert ours["itl"]["count"] == 6 * 11 and ours["gap"]["count"] == 6 * 3
    assert ours["gap"]["p99"] > 2 * ours["itl"]["p99"]  # it comes in runs of three and four
    assert ours["ttft"]["p50"] <= ours["ttft"]["p90"] <= ours["ttft"]["p99"] < ours["e2e"]["p99"]
    assert "40/s" in shown and "ordinary" in shown
    rates = result["rates_per_s"]
    assert rates["40/s"] == 40
    assert f"50 % of stock ({rates['50 % of stock']:.2g}/s)" in shown
    every_s = result["starts_every_s"]["3 in flight (staggered)"]
    assert every_s == pytest.approx(0.5 / rates["50 % of stock"])
    assert f"3 in flight (staggered, every {every_s:.2g} s)" in shown
    assert plot.read_bytes().startswith(PNG)


def test_divergence_finds_the_place_and_the_spans(bench, fakes, tmp_path):
    plot = tmp_path / "plot.png"
    sizes = ["--prompts", "4", "--in-flight", "4"]
    result, shown = bench("divergence", *sizes, *SMALL, "--plot", str(plot))
    assert result["ordinary"] == {
        "prompts": 4,
        "diverged": 4,
        "diverged_at": [5] * 4,
        "first_span": [5] * 4,
        "second_span": [0] * 4,
    }
    assert result["deterministic"]["diverged"] == 0
    assert result["deterministic"]["first_span"] == [12] * 4
    assert "deterministic" in shown
    assert plot.read_bytes().startswith(PNG)


def test_a_deterministic_answer_that_diverges_is_an_error(capsys, fakes, model):
    fakes["llm42"] += ["--broken", "diverges"]
    arguments = ["divergence", "--prompts", "2", "--in-flight", "2", *SMALL, "--model", str(model)]
    with pytest.raises(SystemExit) as left:
        main(["bench", *arguments])
    assert left.value.code == 1
    printed = capsys.readouterr()
    assert "2 of 2 deterministic answers differ" in printed.err.splitlines()[-1]
    assert json.loads(printed.out.splitlines()[-1])["deterministic"]["diverged"] == 2


def test_unverified_answers_are_an_error(capsys, fakes, model):
    fakes["llm42"] += ["--broken", "unverified"]
    sizes = ["--requests", "4", "--in-flight", "2", "--rounds", "1", "--serial-requests", "0"]
    with pytest.raises(SystemExit) as left:
        main(["bench", "throughput", "--shares", "100", *sizes, *SMALL, "--model", str(model)])
    assert left.value.code == 1
    assert "does not verify" in capsys.readouterr().err.splitlines()[-1]


COSTS = '{"pass": {"1": {"0": 0.1, "20": 0.2}, "2": {"0": 0.15}}, "decode": {"4": {"64": 0.05}}}'


def test_passes_reads_what_the_servers_measured(bench, fakes, tmp_path):
    fakes["llm42"] += ["--says", f"[2026] llm42: costs {COSTS}"]
    plot = tmp_path / "plot.png"
    sizes = ["--pages", "16,64", "--groups", "1,8", "--simulated-requests", "60"]
    result, shown = bench("passes", *sizes, "--plot", str(plot))
    assert result["costs_s"] == {"16": json.loads(COSTS), "64": json.loads(COSTS)}
    rates = result["recompute_rate"]
    assert 0 < rates["16"]["8"] < rates["64"]["8"] < 1
    assert "6.25" in shown  # 100 ms over 16 rows
    assert plot.read_bytes().startswith(PNG)


def test_passes_can_do_without_servers(bench, fakes):
    fakes["llm42"] += ["--exit", "1"]
    sizes = ["--pages", "16", "--groups", "1", "--simulated-requests", "10"]
    result, _ = bench("passes", "--no-measure", *sizes, "--flip-rate", "0")
    assert result["costs_s"] == {} and result["recompute_rate"] == {"16": {"1": 0}}


@pytest.mark.parametrize(
    ("says", "said"),
    [("nothing", "logged no costs"), ('llm42: costs {"pass": 3}', "has malformed costs")],
)
def test_costs_that_are_not_there_are_an_error(capsys, fakes, model, monkeypatch, says, said):
    from llm42_sglang.cli.bench import passes

    monkeypatch.setattr(passes, "WAIT_S", 0)
    fakes["llm42"] += ["--says", says]
    with pytest.raises(SystemExit):
        main(["bench", "passes", "--pages", "16", "--model", str(model)])
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["throughput", "--shares", "150"], "--shares takes numbers from 0 to 100"),
        (["throughput", "--requests", "16"], "take at least 48"),
        (["beside", "--requests", "16"], "take at least 48"),
        (["throughput", "--serial-requests", "2"], "--serial-requests takes 0, or more than 2"),
        (["throughput", "--fixed-requests", "15"], "--fixed-requests takes 0, or --in-flight 16"),
        (["throughput", "--mix", "big"], "--mix big is not known"),
        (["throughput", "--prompt-tokens", "x"], "a number of tokens is N or N-M"),
        (["throughput", "--plot", "/nowhere/x.png"], "cannot write /nowhere/x.png"),
        (["throughput", "--model", "/nowhere"], "/nowhere/tokenizer.json is missing"),
        (["latency", "--loads", "closed,0"], "not '0'"),
        (["latency", "--loads", "fast"], "not 'fast'"),
        (["latency", "--loads", "%"], "not '%'"),
        (["latency", "--loads", "50%x"], "not '50%x'"),
        (["latency", "--loads", "100%"], "not '100%'"),
        (["latency", "--loads", "closed,50%", "--requests", "16"], "too few for a closed loop"),
        (["latency", "--loads", "staggered", "--requests", "16"], "too few for a closed loop"),
        (["latency", "--dataset", "/nowhere"], "is no ShareGPT file"),
        (["divergence", "--out", "/nowhere/x"], "cannot write /nowhere/x"),
        (["passes", "--pages", "24"], "--pages 24 is not supported; choose from 16, 32, 64"),
        (["invariance", "--out", "/nowhere/x"], "cannot write /nowhere/x"),
    ],
)
def test_mistakes_are_one_line_before_a_server_starts(capsys, fakes, model, arguments, said):
    for options in fakes.values():
        options += ["--exit", "9"]
    if "--model" not in arguments and arguments[0] != "invariance":
        arguments = [*arguments, "--model", str(model)]
    assert said in refused(capsys, *arguments)
