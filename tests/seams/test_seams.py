"""The seams table is true for the installed wheel, and fails closed."""

from dataclasses import replace

import pytest

from llm42_sglang.engine import hooks, plugin, seams, settings
from llm42_sglang.engine.errors import SeamError
from llm42_sglang.engine.seams.seam import with_sorted_unions


def test_the_installed_wheel_fits():
    seams.check(seams.SEAMS)


def test_rows_are_unique_and_say_why():
    rows = (*seams.SEAMS, *seams.GPU_SEAMS)
    assert len({seam.path for seam in rows}) == len(rows)
    assert all(seam.why for seam in rows)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"path": "sglang.srt.managers.scheduler.Scheduler.no_such_method"}, "is gone"),
        ({"path": "sglang.srt.no_such_module.thing"}, "is gone"),
        ({"signature": "00000000"}, "has changed its signature"),
    ],
)
def test_a_seam_that_does_not_fit_is_named(change, told):
    broken = replace(seams.SEAMS[0], **change)
    with pytest.raises(SeamError, match=told) as error:
        seams.check((*seams.SEAMS[1:], broken))
    assert broken.path in str(error.value)
    assert broken.why in str(error.value)


def test_the_plugin_leaves_the_process_on_a_broken_seam_or_configuration(monkeypatch):
    """SGLang's loader swallows exceptions, but not this."""
    monkeypatch.setattr(plugin, "hook", lambda *args: pytest.fail("half done"))
    monkeypatch.setattr(seams, "SEAMS", (replace(seams.SEAMS[0], signature="00000000"),))
    with pytest.raises(SystemExit, match=seams.SEAMS[0].path):
        plugin.activate()
    monkeypatch.setenv(settings.VARIABLE, '{"page": 24}')
    with pytest.raises(SystemExit, match="--llm42-page 24"):
        plugin.activate()


def test_a_hook_that_sglang_did_not_apply_is_noticed(monkeypatch):
    monkeypatch.setattr(hooks, "_targets", ["sglang.srt.nowhere"])
    with pytest.raises(SeamError, match="on sglang"):
        hooks.require_live()


def test_the_order_in_which_a_union_is_written_does_not_count():
    """Python keeps one object for equal unions: imports decide which text a signature has."""
    one = "(a: Union[str, List[Union[int, str]], NoneType] = None, b: Union[int, str] = 0)"
    other = "(a: Union[List[Union[str, int]], NoneType, str] = None, b: Union[str, int] = 0)"
    third = one.replace("b: Union[int, str]", "b: Union[int, bytes]")
    assert with_sorted_unions(one) == with_sorted_unions(other) != with_sorted_unions(third)
    assert with_sorted_unions("(a: int = 1)") == "(a: int = 1)"
