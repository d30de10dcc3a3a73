"""Hooks through SGLang's registry, remembered: it only logs when it fails to apply one."""

from collections.abc import Callable

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from llm42_sglang.engine.errors import SeamError

_targets: list[str] = []  # dotted paths hooked in this process


def hook(target: str, function: Callable | type, kind: HookType) -> None:
    """Register a hook; SGLang applies it once all plugins are loaded."""
    _targets.append(target)
    HookRegistry.register(target, function, kind)


def registered() -> bool:
    """Whether this process has registered any."""
    return bool(_targets)


def require_live() -> None:
    """Raise SeamError naming a hook that SGLang did not apply."""
    missing = [target for target in _targets if target not in HookRegistry._patched]
    if missing:
        raise SeamError(f"SGLang did not apply the hook on {missing[0]}; see the log above")
