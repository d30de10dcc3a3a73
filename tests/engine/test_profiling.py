"""A profile that cannot be made is refused, now or later, and ends nothing. No server."""

from types import SimpleNamespace

import pytest
from sglang.srt.managers.io_struct import ProfileReq, ProfileReqType
from sglang.srt.managers.scheduler_components import profiler_manager
from sglang.srt.managers.scheduler_components.profiler_manager import SchedulerProfilerManager
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.platforms.device_mixin import DeviceMixin

from llm42_sglang.engine.loop import profiling

START, STOP = (ProfileReq(req_type=kind) for kind in ProfileReqType)
LATER = {"start_step": {"start_step": 1}, "profile_by_stage": {"profile_by_stage": True}}
BATCH = SimpleNamespace(forward_mode=ForwardMode.EXTEND)


class Platform(DeviceMixin):
    """As SGLang declares one: it knows no profiler."""

    def is_out_of_tree(self) -> bool:
        return True


@pytest.fixture
def manager(monkeypatch) -> SchedulerProfilerManager:
    monkeypatch.setattr(profiler_manager, "current_platform", Platform())
    group = SimpleNamespace(cpu_group=None)
    monkeypatch.setattr(profiler_manager, "get_dp_tp_group", lambda: group)
    made = SchedulerProfilerManager(get_forward_ct=lambda: made.forwards)
    made.forwards = 0
    return made


def ask(manager, request):
    return profiling.answer(SchedulerProfilerManager._profile, manager, request)


def test_a_profile_that_cannot_start_is_refused_with_the_reason(manager):
    for _ in range(2):
        answer = ask(manager, START)
        assert not answer.success and "NotImplementedError" in answer.message
        assert "not in progress" in ask(manager, STOP).message


@pytest.mark.parametrize("fields", LATER)
def test_one_that_cannot_start_later_is_given_up(manager, fields):
    def run(step) -> None:
        assert ask(manager, ProfileReq(num_steps=3, **LATER[fields])).success
        for _ in range(5):
            manager.forwards += 1
            step(manager, BATCH)

    run(lambda *args: profiling.step(SchedulerProfilerManager._profile_batch_predicate, *args))
    assert not manager.profile_in_progress and not manager.profile_by_stage
    with pytest.raises(NotImplementedError):  # the negative control
        run(SchedulerProfilerManager._profile_batch_predicate)


def test_one_that_fails_at_its_end_leaves_no_profiler_running(manager, tmp_path, monkeypatch):
    monkeypatch.setattr(Platform, "is_out_of_tree", lambda self: False)
    start = ProfileReq(output_dir=str(tmp_path), activities=["CPU"])
    for _ in range(2):
        assert ask(manager, start).success
        manager.torch_profiler_output_dir = tmp_path / "gone\0"
        assert "ValueError" in ask(manager, STOP).message
        assert not manager.profile_in_progress
