"""What `llm42 serve` and `llm42 doctor` say without starting anything."""

import pytest

from llm42_sglang.cli import doctor
from llm42_sglang.cli.main import main
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
