"""Tables, files and plots."""

import pytest

from llm42_sglang.cli.bench import report
from llm42_sglang.cli.bench.servers import Flags, ours, serial, split, stock
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.output import cell
from llm42_sglang.files import replacing


def test_cells_show_three_digits():
    assert [cell(x) for x in (None, 0.98765, 12345.6, 7, "a")] == [
        *("-", "0.988", "12346", "7", "a")
    ]


def test_hardware_and_workload_stand_above_the_table(capsys):
    report.show("title", {"requests": 3, "absent": None}, ("a", "b"), [("x", 1.5)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("hardware: cpu ")
    assert "cores" in lines[0] and "sglang" in lines[0]
    assert lines[1] == "workload: requests 3"
    assert "title" in lines[2]


def test_a_file_is_replaced_when_complete_or_not_at_all(tmp_path):
    file = tmp_path / "out.json"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    with replacing(file) as new:
        new.write_text("new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write"):  # noqa: SIM117
        with replacing(tmp_path / "folder") as new:
            new.write_text("a file cannot take a folder's place")


def test_a_plot_is_a_png_and_without_a_path_nothing_is_drawn(tmp_path):
    path = tmp_path / "plot"
    report.plot(path, lambda axes: axes[1].plot([1, 2]))
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    report.plot(None, lambda axes: pytest.fail("drawn"))


def test_flags_named_llm42_go_to_our_server_only():
    arguments = ["--page-size", "32", "--llm42-group", "4", "--llm42-default", "--x=1", "--y"]
    assert split(arguments) == (
        ["--page-size", "32", "--x=1", "--y"],
        ["--llm42-group", "4", "--llm42-default"],
    )


def test_servers_differ_in_what_is_compared_only(tmp_path):
    flags = Flags.of(tmp_path, ["--llm42-group", "4", "--x", "1"], 50000)
    common = ["--model-path", str(tmp_path), "--random-seed", "1", "--sleep-on-idle"]
    common += ["--x", "1", "--max-total-tokens", "50000"]
    stock_argv = stock(flags).argv
    assert stock_argv[1:3] == ["-m", "sglang.launch_server"]
    assert stock_argv[5:] == common
    assert serial(flags).argv[5:] == [*common, "--max-running-requests", "1"]
    assert ours(flags).argv[6:] == [*common, "--llm42-group", "4"]
    assert stock(flags).env["SGLANG_PLUGINS"] == serial(flags).env["SGLANG_PLUGINS"] == "llm42_cpu"
    assert "SGLANG_PLUGINS" not in ours(flags).env


def test_a_pool_size_of_the_users_own_wins(tmp_path):
    for flag in (["--max-total-tokens", "9"], ["--max-total-tokens=9"]):
        assert Flags.of(tmp_path, flag, 50000).everywhere == tuple(flag)
    assert Flags.of(tmp_path, [], 5).everywhere == ("--max-total-tokens", "20000")
