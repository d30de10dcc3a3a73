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
    environment = dict(env)
    monkeypatch.setattr(platform.os, "environ", environment)
    assert platform.activate() == offered
    assert environment == env | ({"GOMP_SPINCOUNT": "2000"} if offered else {})


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(platform, "_has_accelerator", lambda: False)
    environment = {"GOMP_SPINCOUNT": "7"}
    monkeypatch.setattr(platform.os, "environ", environment)
    platform.activate()
    assert environment == {"GOMP_SPINCOUNT": "7"}
