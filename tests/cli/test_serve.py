"""What `llm42 serve` and `llm42 doctor` say without starting anything."""

import pytest

from llm42_sglang.cli import doctor
from llm42_sglang.cli.main import main
from llm42_sglang.core.config import Config
from llm42_sglang.engine import launch


@pytest.fixture
def wrong_sglang(monkeypatch):
    monkeypatch.setattr(launch, "version", lambda name: "0.5.22")


def test_another_sglang_is_refused_in_one_line(wrong_sglang, capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["serve"])
    said = capsys.readouterr().err.strip().splitlines()
    assert exit_status.value.code == 1
    assert len(said) == 1
    assert "0.5.22" in said[0]
    assert "pip install sglang==0.5.23" in said[0]


@pytest.fixture
def served(monkeypatch):
    """The configuration that `llm42 serve` would serve with."""
    configs = []
    monkeypatch.setattr(launch, "serve", lambda config, argv: configs.append(config))
    return configs


@pytest.mark.parametrize(
    ("flags", "wait", "said"),
    [
        ("--llm42-wait 8", 8, []),
        ("--llm42-run-ahead 4", 4, ["write --llm42-wait 4"]),
        ("--llm42-wait 100 --llm42-run-ahead 32", 32, ["write --llm42-wait 32"]),
    ],
)
def test_the_flags_of_0_3_still_work_and_a_line_says_what_to_write(
    served, capsys, flags, wait, said
):
    with pytest.raises(SystemExit) as left:
        main(["serve", "--model-path", "x", *flags.split()])
    lines = capsys.readouterr().err.strip().splitlines()
    assert left.value.code == 0 and served == [Config(wait=wait)]
    assert [line.partition("; ")[2] for line in lines] == said


def test_what_took_the_place_of_tuning_is_told(served, capsys):
    with pytest.raises(SystemExit) as left:
        main(["serve", "--llm42-tune"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert left.value.code == 1 and "llm42 bench passes" in line and not served


def test_doctor_finds_another_sglang(wrong_sglang, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"versions": doctor.CHECKS["versions"]})
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor"])
    out = capsys.readouterr().out
    assert exit_status.value.code == 1
    assert "FAILED" in next(line for line in out.splitlines() if line.startswith("versions"))


def test_doctor_is_content_here(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor"])
    assert exit_status.value.code == 0, capsys.readouterr().out


def test_a_check_that_breaks_is_a_finding(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"device": lambda: 1 / 0})
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor"])
    assert exit_status.value.code == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
