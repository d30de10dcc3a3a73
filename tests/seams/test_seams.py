"""The seams table is true for the installed wheel, and fails closed."""

from dataclasses import replace

import pytest
import sglang.srt.plugins

from llm42_sglang.engine import hooks, plugin, settings
from llm42_sglang.engine.errors import SeamError
from llm42_sglang.engine.seam import each_once, seams_of
from llm42_sglang.engine.seams import signatures
from llm42_sglang.engine.seams.check import check, with_sorted_unions
from llm42_sglang.engine.seams.table import GPU_SEAMS
from llm42_sglang.engine.start import launch

KNOWN = signatures.read()
STAMPED = plugin.SEAMS[-1]


def test_the_installed_wheel_fits():
    check(plugin.SEAMS, KNOWN)


def test_symbols_are_unique_and_say_why():
    seams = (*plugin.SEAMS, *GPU_SEAMS)
    assert len({seam.path for seam in seams}) == len(seams)
    assert all(seam.why for seam in seams)


def test_there_is_a_signature_for_every_symbol_and_for_nothing_else():
    assert KNOWN.keys() == {seam.path for seam in plugin.SEAMS}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("sglang.srt.managers.scheduler.Scheduler.no_such_method", "is gone"),
        ("sglang.srt.no_such_module.thing", "is gone"),
        ("sglang.srt.managers.io_struct.FreezeGCReq", "has changed its signature"),  # none known
    ],
)
def test_a_seam_that_does_not_fit_is_named(path, told):
    broken = replace(STAMPED, path=path)
    with pytest.raises(SeamError, match=told) as error:
        check((*plugin.SEAMS, broken), KNOWN)
    assert broken.path in str(error.value)
    assert broken.why in str(error.value)


@pytest.mark.parametrize("path", KNOWN)
def test_another_signature_of_any_symbol_is_named(path):
    with pytest.raises(SeamError, match=f"seam {path} has changed its signature"):
        check(plugin.SEAMS, {**KNOWN, path: ("00000000",)})


def test_a_symbol_may_have_the_signature_that_the_patches_give_it():
    check([STAMPED], {STAMPED.path: ("00000000", *KNOWN[STAMPED.path])})


def test_the_plugin_leaves_the_process_on_a_broken_seam_or_configuration(monkeypatch):
    """SGLang's loader swallows exceptions, but not this."""
    monkeypatch.setattr(hooks, "_hook", lambda *args: pytest.fail("half done"))
    monkeypatch.setattr(signatures, "read", lambda: {**KNOWN, STAMPED.path: ("00000000",)})
    with pytest.raises(SystemExit, match=STAMPED.path):
        plugin.activate()
    monkeypatch.setenv(settings.VARIABLE, '{"page": 24}')
    with pytest.raises(SystemExit, match="--llm42-page 24"):
        plugin.activate()


def test_the_launcher_says_what_the_plugin_says(monkeypatch):
    def load() -> None:
        raise SystemExit("llm42: seam x is gone")

    monkeypatch.setattr(sglang.srt.plugins, "load_plugins", load)
    with pytest.raises(launch.LaunchError, match=r"^seam x is gone$"):
        launch._load_plugin()


def test_a_hook_that_sglang_did_not_apply_is_noticed(monkeypatch):
    monkeypatch.setattr(hooks, "_targets", ["sglang.srt.nowhere"])
    with pytest.raises(SeamError, match="on sglang"):
        hooks.require_live()


@pytest.mark.parametrize(
    ("notation", "symbols", "row"),
    [
        ("a.f", ["a.f"], "a.f"),
        ("a._f", ["a._f"], "a._f"),
        ("a.C", ["a.C"], "a.C"),
        ("a.C.g", ["a.C.g"], "a.C"),
        ("a._C.{g,h}", ["a._C.g", "a._C.h"], "a._C"),
        ("a.C{g,h}", ["a.C", "a.C.g", "a.C.h"], "a.C"),
    ],
)
def test_symbols_of_one_class_are_one_row(notation, symbols, row):
    seams = seams_of(notation, "see")
    assert [seam.path for seam in seams] == symbols
    assert {seam.row for seam in seams} == {row}


def test_a_symbol_that_is_needed_twice_says_both():
    seams = each_once([*seams_of("a.C.g", "see"), *seams_of("a.C.{g,h}", "hear")])
    assert [(seam.path, seam.why) for seam in seams] == [("a.C.g", "see; hear"), ("a.C.h", "hear")]


def test_the_order_in_which_a_union_is_written_does_not_count():
    """Python keeps one object for equal unions: imports decide which text a signature has."""
    one = "(a: Union[str, List[Union[int, str]], NoneType] = None, b: Union[int, str] = 0)"
    other = "(a: Union[List[Union[str, int]], NoneType, str] = None, b: Union[str, int] = 0)"
    third = one.replace("b: Union[int, str]", "b: Union[int, bytes]")
    assert with_sorted_unions(one) == with_sorted_unions(other) != with_sorted_unions(third)
    assert with_sorted_unions("(a: int = 1)") == "(a: int = 1)"
