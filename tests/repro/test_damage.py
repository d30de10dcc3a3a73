"""Damaged suites, golden files and receipts: a short sample of what `scripts/fuzz` does."""

import re

import pytest

from tests.fire.damage import Damager, Ended, Server, answers, run

SAMPLE = 250
DIGEST = re.compile(rb'("output_digest": ?")[0-9a-f]{32}')


@pytest.fixture
def damager(recording, tmp_path):
    files = {
        "suite": [recording / "suite.yaml"],
        "golden": [recording / "golden.json"],
        "receipt": sorted((recording / "receipts").iterdir()),
    }
    folder = tmp_path / "damaged"
    folder.mkdir()
    with Server() as server:
        yield Damager(server.url, files, folder)


def test_a_damaged_file_is_a_mistake_in_one_line_or_has_a_right_verdict(damager):
    damager.fire(SAMPLE)
    statuses = {kind: set(counts) for kind, counts in damager.by_attack.items()}
    assert len(statuses) == 3 and all(len(seen) >= 2 for seen in statuses.values())


def test_negative_control_a_changed_answer_that_passes_would_be_noticed(damager, recording):
    """On a server whose answers are those of the damaged file, the verdict would be wrong."""
    golden = recording / "golden.json"
    changed = golden.read_bytes().replace(b'"finish_reason": "length"', b'"finish_reason": "stop"')
    path = damager.folder / "golden.json"
    path.write_bytes(changed)
    assert answers(path) != answers(golden)
    assert run("check", str(path), "--url", damager.url, "--conditions", "alone").status == 1


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_negative_control_a_damaged_receipt_that_passes_would_be_noticed(
    damager, recording, monkeypatch, command
):
    """As if the command found everything authentic; the other one judges as ever."""

    def passes(*arguments: str) -> Ended:
        return Ended(0, "AUTHENTIC", "") if arguments[0] == command else run(*arguments)

    path = sorted((recording / "receipts").iterdir())[0]
    content = path.read_bytes()
    changed = DIGEST.sub(lambda found: found[1] + b"0" * 32, content, count=1)
    assert changed != content
    damager.judge("receipt", path, content)
    damager.judge("receipt", path, changed)
    monkeypatch.setattr("tests.fire.damage.run", passes)
    damager.judge("receipt", path, content)
    with pytest.raises(AssertionError, match=f"^{command} of "):
        damager.judge("receipt", path, changed)
