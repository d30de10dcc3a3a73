"""The platform offers itself only where SGLang has nothing of its own."""

import pytest

from llm42_sglang import platform


@pytest.fixture
def plain_cpu(monkeypatch):
    monkeypatch.setattr(platform, "_has_accelerator", lambda: False)
    monkeypatch.delenv(platform.SWITCH, raising=False)
    monkeypatch.delenv("SGLANG_USE_CPU_ENGINE", raising=False)


def test_on_a_plain_cpu(plain_cpu):
    assert platform.activate() == platform.PLATFORM_CLASS


def test_not_beside_an_accelerator(plain_cpu, monkeypatch):
    monkeypatch.setattr(platform, "_has_accelerator", lambda: True)
    assert platform.activate() is None


@pytest.mark.parametrize(
    ("variable", "value"), [("LLM42_PLATFORM", "off"), ("SGLANG_USE_CPU_ENGINE", "1")]
)
def test_not_when_switched_off(plain_cpu, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert platform.activate() is None
