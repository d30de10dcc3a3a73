"""The commands from end to end on fake servers: tables, the last line, and files."""

import json
import sys
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pytest

from llm42_sglang.cli.bench import drafts, latency, passes, servers
from llm42_sglang.cli.bench.load import Step
from llm42_sglang.cli.bench.servers import Flags, ours, serial, stock
from llm42_sglang.cli.bench.workload import Lengths, Source, mark, spans
from llm42_sglang.core.config import Config
from llm42_sglang.errors import UserError
from llm42_sglang.files import replacing

SMALL = ["--prompt-tokens", "4-9", "--new-tokens", "12"]


@pytest.fixture
def fakes(fake, monkeypatch):
    """Options of the fake servers that commands start, by name. A test fills them in."""
    options: dict[str, list[str]] = {"stock": [], "serial": [], "ours": []}
    for name in options:
        monkeypatch.setattr(servers, name, _starting(fake, options, name))
    return options


def _starting(fake, options: dict[str, list[str]], server: str):
    """A function that stands in for one of `servers`."""
    return lambda flags, name=server, more=(): fake(*options[server], name=name)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model that knows two words. All others are token 0."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "the": 1, "of": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def bench(llm42, model, tmp_path):
    """A function that runs `llm42 bench`. It returns the JSON of the last line, and the rest."""

    def run(command: str, *arguments: str) -> tuple[dict, str]:
        files = ["--model", str(model), "--out", str(tmp_path / "out.json")]
        status, printed, error = llm42("bench", command, *arguments, *files)
        assert status == 0, error
        *shown, last = printed.splitlines()
        result = json.loads(last)
        assert json.loads((tmp_path / "out.json").read_text()) == result
        return result, "\n".join(shown)

    return run


@pytest.fixture
def refused(llm42, model):
    """A function that runs `llm42 bench`, which must refuse. It returns the last line on stderr."""

    def run(*arguments: str) -> str:
        status, _, error = llm42("bench", arguments[0], "--model", str(model), *arguments[1:])
        assert status == 1
        return error.splitlines()[-1]

    return run


@pytest.mark.usefixtures("fakes")
def test_throughput_compares_the_servers_within_a_round(bench):
    sizes = ["--requests", "6", "--in-flight", "4", "--rounds", "2", "--serial-requests", "3"]
    arguments = ["--shares", "50, 0,50", *sizes, *SMALL, "--llm42-group", "4"]
    result, shown = bench("throughput", *arguments)
    rates, ratios = result["tokens_per_s"], result["ratios_to_stock"]
    for share in ("0", "50"):  # medians of ratios within a round
        pairs = zip(rates["llm42"][share], rates["stock"][share], strict=True)
        assert ratios[share] == [ours / stock for ours, stock in pairs] and len(ratios[share]) == 2
    assert result["ratio_to_stock"] == {share: median(ratios[share]) for share in ("0", "50")}
    pairs = zip(rates["llm42"]["50"], rates["serial"], strict=True)
    assert result["speedup_over_serial"] == median(ours / serial for ours, serial in pairs)
    assert result["rollbacks"] == 2 * 3  # the fake's receipts: one each, of 3 tokens
    assert result["recompute_rate"] == 3 / (12 + 3)
    assert result["recompute_rate_by_share"] == {"0": None, "50": 3 / (12 + 3)}
    assert result["canonical_step_rate"] == 6 / 12
    assert result["canonical_step_rate_by_share"] == {"0": None, "50": 6 / 12}
    assert result["deterministic_requests_by_share"] == {"0": 0, "50": 6}
    assert result["workload"]["flags"] == "--max-total-tokens 20000 --llm42-group 4"
    assert shown.index("hardware: ") < shown.index("workload: ") < shown.index("ratio")
    assert "in_flight 4" in shown and "one at a time" in shown


def test_latency_compares_within_a_round():
    """The machine is three times as slow in the second round, which is no difference."""
    seconds = {("stock", 0): 1.0, ("llm42", 0): 2.0, ("llm42", 1): 6.0, ("stock", 1): 3.0}
    outcomes = {
        Step(number, "closed", 50.0, server): [
            SimpleNamespace(request=SimpleNamespace(deterministic=True), inter_token_s=[99.0]),
            SimpleNamespace(request=SimpleNamespace(deterministic=False), inter_token_s=[each]),
        ]
        for (server, number), each in seconds.items()
    }
    assert latency._ratios(outcomes, "itl", "ordinary") == {"closed": {"50": [2.0, 2.0]}}
    assert latency._medians({"closed": {"50": [1.0, 5.0, 2.0], "100": []}}) == {
        "closed": {"50": 2.0, "100": None}
    }


def test_latency_tells_kinds_apart(bench, fakes):
    fakes["ours"] += ["--token-s", "0.01"]
    sizes = ["--requests", "6", "--in-flight", "3", "--rounds", "2", "--loads", "closed,90,50%"]
    result, shown = bench("latency", "--shares", "50,100", *sizes, *SMALL)
    loads = {"3 in flight", "90/s", "50 % of stock"}
    assert set(result["p99_ttft_ratio"]) == set(result["p99_itl_ordinary_ratio"]) == loads
    points = {(p["load"], p["share"], p["server"], p["kind"]): p for p in result["points"]}
    assert len(points) == 3 * 2 * (2 + 1)
    for load in loads:
        assert result["p99_itl_ordinary_ratio"][load]["100"] is None  # no request is ordinary
        for share, name in ((50, "p99_itl_ordinary_ratio"), (100, "p99_ttft_ratio")):
            of_rounds = result[f"{name}s"][load][f"{share}"]
            assert len(of_rounds) == 2
            assert result[name][load][f"{share}"] == median(of_rounds)
    ours = points["90/s", 50, "llm42", "deterministic"]
    assert ours["requests"] == 6 and ours["ttft"]["count"] == 6
    assert ours["itl"]["count"] == 6 * 11 and ours["gap"]["count"] == 6 * 3
    assert ours["gap"]["p99"] > 2 * ours["itl"]["p99"]  # it comes in runs of three and four
    assert "90/s" in shown and "ordinary" in shown
    assert result["rollbacks"] > 0 and result["canonical_step_rate"] == 6 / 12
    assert result["rates_per_s"].keys() == {"90/s", "50 % of stock"}


@pytest.mark.usefixtures("fakes")
def test_drafts_compares_with_and_without_them_within_a_round(bench):
    result, shown = bench("drafts", "--loads", "copy:1,edit:1,fresh:2", "--rounds", "2", *SMALL)
    assert [(one["asked"], one["in_flight"]) for one in result["points"]] == [
        ("copy", 1),
        ("edit", 1),
        ("fresh", 2),
    ]
    for one in result["points"]:
        speeds = one["tokens_per_s"]
        for other in ("stock", "llm42"):
            pairs = zip(speeds["drafts"], speeds[other], strict=True)
            assert one["ratios"][other] == [fast / slow for fast, slow in pairs]
        rollbacks = 2 * one["in_flight"]  # the fake's receipts: one each
        assert one["rollbacks"] == {"llm42": rollbacks, "drafts": rollbacks}
    assert "drafts over it" in shown and "fresh" in shown


def test_drafts_that_change_an_answer_are_an_error(monkeypatch, model):
    answers = iter(range(99))
    monkeypatch.setattr(
        drafts.load, "run", lambda *loaded: [SimpleNamespace(output_ids=next(answers))]
    )
    monkeypatch.setattr(drafts, "tokens_per_s", lambda outcomes: 1.0)
    source, asked = Source.of("4", "1", model, seed=0), [drafts.Asked("copy", 1)]
    with pytest.raises(UserError, match="drafts have changed an answer"):
        drafts.measure(dict.fromkeys(drafts.SERVERS), source, asked, count=1, rounds=1)


def costs(pass_s: dict[int, float], decode_s: dict[int, float]) -> dict:
    """Costs that are the same at both places."""
    kinds = {"pass": (pass_s, "0", "20"), "decode": (decode_s, "64", "512")}
    return {
        kind: {str(width): dict.fromkeys(places, s) for width, s in of.items()}
        for kind, (of, *places) in kinds.items()
    }


CHEAP = {1: 0.1, 2: 0.1, 4: 0.12, 8: 0.22, 16: 0.42}  # a page: 0.1, 0.05, 0.03, 0.0275, 0.02625


def test_passes_shows_costs_and_recommends_flags(bench, monkeypatch):
    costs_s = costs(CHEAP, {1: 0.05, 16: 0.16})
    script = f"import json, sys; print('so', sys.argv[1]); print(json.dumps({costs_s}))"
    monkeypatch.setattr(passes, "MEASURE", (sys.executable, "-c", script))
    result, shown = bench("passes", "--pages", "16,32", "--max-total-tokens", "9")
    assert result["costs_s"] == {"16": costs_s, "32": costs_s}
    assert result["workload"]["flags"] == "--max-total-tokens 9"
    assert "--llm42-page 16 --llm42-group 4 --llm42-wait 4" in shown
    assert "--llm42-page 32 --llm42-group 4 --llm42-wait 8" in shown  # 8 steps of 16: four pages
    assert "6.25" in shown  # ms: 100 over 16 rows
    assert result["recommended"]["32"]["verify_s"] == pytest.approx(0.03 / 32)


@pytest.mark.parametrize(
    ("pass_s", "in_flight", "group", "wait"),
    [
        (CHEAP, 3, 2, 22),  # wider passes would never be full
        (CHEAP, 1, 1, 32),  # no longer than a page
        ({1: 0.1, 2: 0.2, 4: 0.4}, 16, 1, 16),  # one pass a step has to serve all 16
        ({1: 0.1, 4: 0.1, 8: 0.1, 16: 0.1}, 16, 16, 32),
    ],
)
def test_the_smallest_group_that_is_cheap_enough_and_the_steps_that_fill_it(
    pass_s, in_flight, group, wait
):
    advice = passes.recommended(32, costs(pass_s, {1: 0.05, 16: 0.16}), in_flight)
    assert (advice.group, advice.wait) == (group, wait)
    Config(advice.page, advice.group, wait=advice.wait)  # they are flags that a server takes
    assert advice.decode_s == pytest.approx(0.01)
    assert advice.of_stock == pytest.approx(0.01 / (0.01 + pass_s[group] / group / 32))


def test_costs_that_cannot_be_measured_are_an_error(refused, monkeypatch):
    script = "import sys; sys.exit('llm42: error: no such model')"
    monkeypatch.setattr(passes, "MEASURE", (sys.executable, "-c", script))
    message = refused("passes", "--pages", "16")
    assert message.endswith("no costs were measured: no such model")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["throughput", "--shares", "150"], "--shares takes numbers from 0 to 100"),
        (["throughput", "--requests", "16"], "take at least 48"),
        (["throughput", "--serial-requests", "2"], "--serial-requests takes 0, or more than 2"),
        (["throughput", "--prompt-tokens", "9-5"], "tokens from 9 to 5: nothing lies there"),
        (["throughput", "--out", "/nowhere/x.json"], "cannot write /nowhere/x.json"),
        (["throughput", "--model", "/nowhere"], "/nowhere/tokenizer.json is missing"),
        (["latency", "--loads", "closed,0"], "not '0'"),
        (["drafts", "--loads", "copy:1,poem:1"], "takes copy:N or edit:N or fresh:N, N in flight"),
        (["drafts", "--loads", "copy:0"], "not 'copy:0'"),
        (["latency", "--loads", "closed,50%", "--requests", "16"], "too few for a closed loop"),
        (["passes", "--pages", "24"], "--pages 24 is not supported; choose from 16, 32, 64"),
        (["passes", "--llm42-group", "4"], "--llm42-group is what `bench passes` recommends"),
    ],
)
def test_mistakes_are_one_line_before_a_server_starts(refused, fakes, arguments, message):
    for options in fakes.values():
        options += ["--exit", "9"]
    assert message in refused(*arguments)  # and not that a server has ended


def test_a_file_that_is_not_complete_leaves_the_old_one(tmp_path):
    file = tmp_path / "out.json"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_requests_are_spans_of_the_text_that_follow_seed_and_round_and_marks_are_spread(model):
    text, lengths = list(range(1000, 2000)), (Lengths(4, 9), Lengths(16, 20))
    requests = spans(text, *lengths, 200, seed=3)
    assert {len(r.prompt_ids) for r in requests} == set(range(4, 10))
    assert {r.new_tokens for r in requests} == set(range(16, 21))
    for ids in (r.prompt_ids for r in requests):
        assert ids == tuple(range(ids[0], ids[-1] + 1))
    assert spans(text, *lengths, 5, seed=3) == requests[:5] != spans(text, *lengths, 5, seed=4)
    source = Source.of("4096", "1", model, seed=0)  # the real text is long enough for that
    assert source.requests(3, 0) != source.requests(3, 1) == source.requests(3, 1)
    for request, copied in zip(source.requests(2), source.copies(2), strict=True):
        text = request.prompt_ids  # this tokenizer has no token for the gap
        assert copied.prompt_ids == (*text, *text, *text[:16])
    (edit,), text = source.copies(1, edits=True), source.requests(1)[0].prompt_ids
    again = edit.prompt_ids[len(text) : 2 * len(text)]
    changed = [i for i, (a, b) in enumerate(zip(text, again, strict=True)) if a != b]
    assert changed and {i % 16 for i in changed} == {15}
    assert edit.prompt_ids[2 * len(text) :] == again[:16]
    for share, count, places in ((0, 8, []), (25, 8, [1, 5]), (2, 48, [24]), (100, 2, [0, 1])):
        marked = mark(requests[:count], share)
        assert [i for i, request in enumerate(marked) if request.deterministic] == places


def test_servers_differ_in_what_is_compared_only(tmp_path):
    flags = Flags.of(tmp_path, ["--llm42-group", "4", "--x", "1", "--llm42-default"], 50000)
    common = ["--model-path", str(tmp_path), "--random-seed", "1", "--sleep-on-idle"]
    common += ["--x", "1", "--max-total-tokens", "50000"]
    stock_argv = stock(flags).argv
    assert stock_argv[1:3] == ["-m", "sglang.launch_server"] and stock_argv[5:] == common
    assert serial(flags).argv[5:] == [*common, "--max-running-requests", "1"]
    assert ours(flags).argv[6:] == [*common, "--llm42-group", "4", "--llm42-default"]
    assert stock(flags).env["SGLANG_PLUGINS"] == serial(flags).env["SGLANG_PLUGINS"] == "llm42_cpu"
    assert "SGLANG_PLUGINS" not in ours(flags).env
    for flag in (["--max-total-tokens", "9"], ["--max-total-tokens=9"]):  # the user's own wins
        assert Flags.of(tmp_path, flag, 50000).everywhere == tuple(flag)
    assert Flags.of(tmp_path, [], 5).everywhere == ("--max-total-tokens", "20000")
