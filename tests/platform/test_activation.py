"""The platform offers itself only where SGLang has no device of its own."""

import pytest

from llm42_sglang import platform


@pytest.mark.parametrize(
    ("accelerator", "env", "offered"),
    [
        (False, {}, platform.PLATFORM_CLASS),
        (True, {}, None),
        (False, {"LLM42_PLATFORM": "off"}, None),
        (False, {"SGLANG_USE_CPU_ENGINE": "1"}, None),
    ],
)
def test_on_a_plain_cpu_unless_switched_off(monkeypatch, accelerator, env, offered):
    monkeypatch.setattr(platform, "_has_accelerator", lambda: accelerator)
    for name in (platform.SWITCH, "SGLANG_USE_CPU_ENGINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert platform.activate() == offered
