"""Workloads, times, rates and summaries: numbers worked out by hand."""

import pytest

from llm42_sglang.cli.bench import report
from llm42_sglang.cli.bench.load import Step
from llm42_sglang.cli.bench.options import numbers
from llm42_sglang.cli.bench.outcome import Chunk, Outcome, percentiles, ratio, recompute
from llm42_sglang.cli.bench.outcome import tokens_per_s as rate
from llm42_sglang.cli.bench.servers import Flags, ours, serial, stock
from llm42_sglang.cli.bench.throughput import summary
from llm42_sglang.cli.bench.workload import Lengths, Request, Source, mark, spans
from llm42_sglang.cli.output import cell
from llm42_sglang.errors import UserError
from llm42_sglang.files import replacing

LENGTHS = (Lengths(4, 9), Lengths(16, 20))
TEXT = list(range(1000, 2000))
RECEIPT = {"verified": True, "tokens_rolled_back": 2, "rollbacks": 1}


def outcome(sent_s, *chunks, deterministic=False, receipt=None) -> Outcome:
    request = Request((1,), chunks[-1][1], deterministic)
    ids = tuple(range(chunks[-1][1]))
    return Outcome(request, sent_s, tuple(Chunk(*chunk) for chunk in chunks), ids, receipt or {})


def test_requests_are_spans_of_the_text_within_the_lengths_and_follow_the_seed():
    requests = spans(TEXT, *LENGTHS, 200, seed=3)
    assert {len(r.prompt_ids) for r in requests} == set(range(4, 10))
    assert {r.new_tokens for r in requests} == set(range(16, 21))
    for ids in (r.prompt_ids for r in requests):
        assert ids == tuple(range(ids[0], ids[-1] + 1))
    assert len({r.prompt_ids for r in requests}) > 150
    assert spans(TEXT, *LENGTHS, 5, seed=3) == requests[:5] != spans(TEXT, *LENGTHS, 5, seed=4)
    with pytest.raises(UserError, match="the text has 9"):
        spans(TEXT[:9], *LENGTHS, 1, seed=0)


def test_the_text_is_long_enough_for_long_prompts_and_every_round_has_its_own(model):
    source = Source.of("4096", "1", model, seed=0)
    first, second = (source.requests(3, number) for number in (0, 1))
    assert len(first) == 3 and first != second == source.requests(3, 1)


@pytest.mark.parametrize(
    ("share", "count", "places"),
    [(0, 8, []), (100, 3, [0, 1, 2]), (25, 8, [1, 5]), (2, 48, [24]), (50, 5, [0, 2, 4])],
)
def test_the_share_is_exact_and_evenly_spread(share, count, places):
    marked = mark([Request((1,), 1)] * count, share)
    assert [i for i, request in enumerate(marked) if request.deterministic] == places


def test_a_deterministic_request_is_marked_only_where_that_is_understood():
    ordinary, marked = Request((1, 2), 5), Request((1, 2), 5, deterministic=True)
    assert "custom_params" not in ordinary.body(True)["sampling_params"]
    assert marked.body(True)["sampling_params"]["custom_params"] == {"deterministic": True}
    assert marked.body(False) == ordinary.body(True)


def test_lengths_are_a_number_or_a_range_and_shares_numbers_with_commas():
    assert (Lengths.parse("128"), Lengths.parse("32-512")) == ((128, 128), (32, 512))
    assert (str(Lengths(5, 5)), str(Lengths(5, 6))) == ("5", "5-6")
    for text in ("", "x", "5-", "9-5", "0", "-3"):
        with pytest.raises(UserError):
            Lengths.parse(text)
    assert numbers("--shares", "0, 2,100,2", 0, 100) == [0, 2, 100]
    for text in ("", "x", "101", "-1", "nan"):
        with pytest.raises(UserError, match="--shares takes numbers from 0 to 100"):
            numbers("--shares", text, 0, 100)


def test_percentiles_are_by_nearest_rank_and_what_is_missing_stays_so():
    assert [*percentiles(range(100, 0, -1)).values()] == [100, 50, 90, 99]
    assert [*percentiles([1, 2, 3]).values()] == [3, 2, 3, 3]
    assert [*percentiles([]).values()] == [0, None, None, None]
    assert ratio(3, 2) == 1.5
    assert ratio(None, 2) is ratio(1, None) is ratio(1, 0) is None


def test_times_of_a_stream_that_comes_in_runs_and_the_rate_of_a_load():
    one = outcome(1.0, (2.0, 1), (4.0, 5), (4.5, 6))
    assert (one.ttft_s, one.end_to_end_s) == (1.0, 3.5)
    assert one.gaps_s == [2.0, 0.5] and one.inter_token_s == [0.5] * 4 + [0.5]
    first, second = outcome(1.0, (2.0, 1), (5.0, 8)), outcome(4.0, (5.0, 1), (21.0, 8))
    assert (rate([first, second]), rate([first])) == (16 / 20, 8 / 4)


def test_recomputation_is_rolled_back_over_all_tokens_made():
    served = [outcome(0.0, (1.0, 3), deterministic=True, receipt=RECEIPT)] * 2
    ordinary = outcome(0.0, (1.0, 100))
    assert recompute([*served, ordinary]) == (2, 4, 2, 0.4)
    assert recompute([ordinary]).rate is None
    for receipt in ({}, {"verified": False}):
        with pytest.raises(UserError, match="does not verify"):
            recompute([outcome(0.0, (1.0, 3), deterministic=True, receipt=receipt)])


def test_ratios_are_medians_of_ratios_within_a_round():
    """Three rounds; the machine is ten times slower in the last, for everybody."""
    measured = {}

    def add(number: int, share: int, server: str, speed: float) -> None:
        receipt = RECEIPT | {"tokens_rolled_back": 25 * number}
        marked = {"deterministic": True, "receipt": receipt} if share and server == "llm42" else {}
        load = [outcome(0.0, (100 / speed, 100), **marked)]
        measured[Step(number, "2 in flight", share, server)] = load

    for number, speed, factor in ((0, 100, 0.9), (1, 100, 0.5), (2, 10, 0.8)):
        for share in (0, 100):
            add(number, share, "stock", speed)
            add(number, share, "llm42", speed * (factor if share else 1))
        add(number, 0, "serial", speed / 10)
    result = summary(measured)
    assert result["ratio_to_stock"] == pytest.approx({"0": 1, "100": 0.8})
    assert result["ratios_to_stock"]["100"] == pytest.approx([0.9, 0.5, 0.8])
    assert result["speedup_over_serial"] == pytest.approx(8)
    assert result["speedup_at_share"] == "100"
    assert result["tokens_per_s"]["serial"] == [10, 10, 1]
    assert result["recompute_rate_by_share"] == {"0": None, "100": 75 / 375}
    assert (result["recompute_rate"], result["rollbacks"]) == (75 / 375, 3)


def test_cells_show_three_digits_and_hardware_and_workload_stand_above_the_table(capsys):
    cells = [cell(x) for x in (None, 0.98765, 12345.6, 7, "a")]
    assert cells == ["-", "0.988", "12346", "7", "a"]
    report.show("title", {"requests": 3, "absent": None}, ("a", "b"), [("x", 1.5)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("hardware: cpu ") and "sglang" in lines[0]
    assert lines[1] == "workload: requests 3" and "title" in lines[2]


def test_a_file_is_replaced_when_complete_or_not_at_all(tmp_path):
    file = tmp_path / "out.json"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    with replacing(file) as new:
        new.write_text("new")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write"), replacing(tmp_path / "folder") as new:
        new.write_text("a file cannot take a folder's place")


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
