"""Hooks, each declared at the function that is called: the target, how, and why.

    @around("sglang.srt.managers.tokenizer_manager.TokenizerManager.abort_request", "end ...")
    def abort_named(original, manager, rid, abort_all): ...

A declaration marks the function and does no more. It is the hook's row of the seams table, so there
is no hook without a row. `plugin` registers what is marked, in the process that it is meant for.
SGLang's registry only logs when it fails to apply a hook, so they are remembered here.
"""

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from llm42_sglang.engine.errors import SeamError
from llm42_sglang.engine.seam import Seam, seams_of

_MARKS = "llm42_marks"  # attribute of a function or class that stands in for SGLang's
_targets: list[str] = []  # dotted paths hooked in this process

Hooking = TypeVar("Hooking", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, slots=True)
class Mark:
    """One declaration."""

    seams: tuple[Seam, ...]
    kind: HookType
    serving_only: bool = False  # not in a server without llm42, which only refuses

    @property
    def targets(self) -> tuple[str, ...]:
        """What is hooked: every symbol; of a class that is replaced, not its methods."""
        seams = self.seams[:1] if self.kind is HookType.REPLACE else self.seams
        return tuple(seam.path for seam in seams)


def around(target: str, why: str, serving_only: bool = False) -> Callable[[Hooking], Hooking]:
    """The function is called in place of SGLang's, which it gets as its first argument."""
    return _marking(Mark(seams_of(target, why), HookType.AROUND, serving_only))


def before(target: str, why: str, serving_only: bool = False) -> Callable[[Hooking], Hooking]:
    """The function is called with SGLang's arguments, and SGLang's after it."""
    return _marking(Mark(seams_of(target, why), HookType.BEFORE, serving_only))


def after(target: str, why: str, serving_only: bool = False) -> Callable[[Hooking], Hooking]:
    """The function is called with SGLang's result and arguments."""
    return _marking(Mark(seams_of(target, why), HookType.AFTER, serving_only))


def stand_in(why: str) -> Callable[[Class], Class]:
    """The class takes the place of SGLang's that it derives from; its overrides have rows too."""

    def marking(cls: Class) -> Class:
        base = cls.__bases__[0]
        target = f"{base.__module__}.{base.__qualname__}"
        methods = (
            Seam(f"{target}.{name}", f"have {cls.__name__}.{name} in its place")
            for name in sorted(overridden(cls))
        )
        return _marking(Mark((Seam(target, why), *methods), HookType.REPLACE))(cls)

    return marking


def overridden(cls: type) -> dict[str, str]:
    """The methods of SGLang's that a class of ours stands in for: dotted paths by name."""
    owners = {
        name: next((base for base in cls.__mro__[1:] if name in vars(base)), object)
        for name, mine in vars(cls).items()
        if not name.startswith("__") and (inspect.isroutine(mine) or isinstance(mine, property))
    }
    return {
        name: f"{owner.__module__}.{owner.__qualname__}.{name}"
        for name, owner in owners.items()
        if owner.__module__.startswith("sglang.")
    }


def _marking(mark: Mark) -> Callable[[Hooking], Hooking]:
    def marking(hook: Hooking) -> Hooking:
        setattr(hook, _MARKS, (*marks_of(hook), mark))
        return hook

    return marking


def marks_of(hook: object) -> tuple[Mark, ...]:
    """What is declared of a function, method or class itself, and not of its base class."""
    return getattr(hook, "__dict__", {}).get(_MARKS, ())


def marked(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """The functions, classes and methods of a module that are marked, in its order."""
    for value in vars(module).values():
        if getattr(value, "__module__", "") != module.__name__:
            continue  # imported
        members = vars(value).values() if isinstance(value, type) else ()
        yield from (each for each in (value, *members) if marks_of(each))


def seams_in(*modules: ModuleType) -> tuple[Seam, ...]:
    """The rows of the seams table that these modules declare."""
    marks = (mark for module in modules for hook in marked(module) for mark in marks_of(hook))
    return tuple(seam for mark in marks for seam in mark.seams)


def register(
    *modules: ModuleType,
    methods_of: Collection[object] = (),
    but: Collection[str] = (),
    serving: bool = True,
) -> None:
    """Register what is marked in these modules. SGLang applies it once all plugins are loaded.

    methods_of: the objects whose methods are meant. but: names of hooks that are left out.
    """
    for hook in (hook for module in modules for hook in marked(module)):
        for mark in marks_of(hook):
            if hook.__name__ not in but and (serving or not mark.serving_only):
                for target in mark.targets:
                    _hook(target, _bound(hook, methods_of), mark.kind)


def _bound(hook: Callable[..., Any], objects: Collection[object]) -> Callable[..., Any]:
    """A method of one of the objects, where it is one."""
    for each in objects:
        if hook in vars(type(each)).values():
            return getattr(each, hook.__name__)
    assert isinstance(hook, type) or "." not in hook.__qualname__, f"whose is {hook.__qualname__}?"
    return hook


def _hook(target: str, function: Callable[..., Any], kind: HookType) -> None:
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
