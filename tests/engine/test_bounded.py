"""What the first process checks and counts, with a manager that is made up. No server."""

import os
from types import SimpleNamespace
from typing import get_args, get_origin, get_type_hints

import psutil
import pytest
from sglang.srt.managers.io_struct import GenerateReqInput, SessionParams
from sglang.srt.managers.tokenizer_manager import ServerStatus

from llm42_sglang.core.config import Config
from llm42_sglang.engine.front import bounded
from llm42_sglang.engine.front.bounded import FrontBounds
from llm42_sglang.frontend.bounds import PER_PROMPT
from llm42_sglang.frontend.options import Refused

WRONG = [
    {"id": 5},
    {"id": [1]},
    {"id": "s", "rid": ["x"]},
    {"id": "s", "offset": "x"},
    {"id": "s", "offset": 2**70},
    {"id": "s", "replace": "x"},
]


@pytest.mark.parametrize("fields", WRONG)
def test_session_params_of_other_types_are_refused(fields):
    with pytest.raises(Refused, match="session_params: "):
        bounded._refuse_undecodable("session_params", SessionParams(**fields))


def test_those_that_SGLang_takes_pass():
    given = SessionParams(id="s", rid="x", offset=-1, replace=True)
    bounded._refuse_undecodable("session_params", given)
    bounded._refuse_undecodable("session_params", None)


def test_every_field_that_may_be_a_value_or_a_list_is_known():
    """By SGLang's declarations. The others have checks of their own."""
    listed = set()
    for name, declared in get_type_hints(GenerateReqInput).items():
        kinds = {get_origin(part) or part for part in get_args(declared)} - {type(None)}
        if list in kinds and kinds != {list}:
            listed.add(name)
    others = {"rid", "text", "sampling_params", "image_data", "video_data", "audio_data"}
    assert listed - others == {*PER_PROMPT}


@pytest.mark.parametrize(
    ("state", "busy"),
    [
        ({}, 1),
        ({"server_status": ServerStatus.UnHealthy}, 1),
        ({"server_status": ServerStatus.Starting}, 0),
        ({"gracefully_exit": True}, 0),
        ({"server_args": SimpleNamespace(watchdog_timeout=0)}, 0),
    ],
)
def test_a_server_that_starts_or_drains_is_neither_busy_nor_paused(state, busy):
    front = FrontBounds(Config())
    usual = {
        "server_status": ServerStatus.Up,
        "gracefully_exit": False,
        "server_args": SimpleNamespace(watchdog_timeout=300),
        "rid_to_state": {"mine": None, "HEALTH_CHECK_1": None},
        "is_pause": True,
    }
    front._manager = SimpleNamespace(**usual | state)
    front._schedulers = [psutil.Process(os.getpid())]
    assert front.in_flight() == front.paused() == busy
