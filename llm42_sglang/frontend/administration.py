"""Rules for the endpoints that administer a server: which requests are refused, and why.

SGLang hands most of these bodies to the scheduler unchecked. An exception there ends the server,
and some valid requests would stall it. So each endpoint has rules here.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llm42_sglang.frontend.bodies import App, error_response, parsed_object, read_body, replay

_POLICY = 1008  # the status of a websocket that is closed for a rule (RFC 6455)

Body = Mapping[str, Any]
Flag = Callable[[str], Any]  # gives the value of a server argument by its name


class Rule(NamedTuple):
    """One condition on a request to an endpoint."""

    holds: Callable[[Body, Flag], bool]
    message: str  # to the client, if the condition does not hold


def _refused(reason: str) -> tuple[Rule, ...]:
    """The rules of an endpoint that is always refused."""
    return (Rule(lambda body, flag: False, reason),)


def _field(name: str, good: Callable[[Any], bool], what: str) -> Rule:
    """A field must be null, or absent, or `good`. what: what it must be."""
    holds = lambda body, flag: body.get(name) is None or good(body[name])  # noqa: E731
    return Rule(holds, f"{name} must be {what}")


def _one_of(name: str, *values: Any) -> Rule:
    return _field(name, lambda value: value in values, f"one of {', '.join(map(str, values))}")


def _integer(name: str, least: int, most: int) -> Rule:
    good = lambda value: type(value) is int and least <= value <= most  # noqa: E731
    return _field(name, good, f"an integer from {least} to {most}")


def _seconds(name: str, most: float) -> Rule:
    def good(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= most

    return _field(name, good, f"a number from 0 to {most}")


def _plain(name: str) -> Rule:
    good = lambda value: isinstance(value, str) and re.fullmatch(r"[\w.-]{0,100}", value)  # noqa: E731
    return _field(name, good, "at most 100 letters, digits, dots and dashes, for a file name")


def _writable(value: Any) -> bool:
    return isinstance(value, str) and os.path.isdir(value) and os.access(value, os.W_OK)


_STAY = "weights and KV cannot leave memory while the server runs; restart the server instead"
_SENT = "sending weights to other servers is not supported with deterministic service"
# SGLang repeats it in its answer, where our reports are in braces.
_VERSION = _field(
    "weight_version", lambda value: isinstance(value, str) and "{" not in value, "without braces"
)
_FOLDER = "a folder that the server can write to"
_RECORDER = Rule(
    lambda body, flag: flag("expert_distribution_recorder_mode") is not None,
    "nothing is recorded; start the server with --expert-distribution-recorder-mode",
)

RULES: dict[str, tuple[Rule, ...]] = {
    "/release_memory_occupation": _refused(_STAY),
    "/resume_memory_occupation": _refused(_STAY),
    **{
        f"/update_weights_from_{source}": (_VERSION,) for source in ("tensor", "distributed", "ipc")
    },
    "/update_weights_from_disk": (
        _VERSION,
        _field("recapture_cuda_graph", lambda value: value is False, "false"),  # not certified
    ),
    "/init_weights_update_group": (
        _integer("master_port", 1, 65535),
        _integer("world_size", 1, 2**20),
        _integer("rank_offset", 0, 2**20),
        _field("group_name", bool, "the name of a group"),  # SGLang asserts that it is not empty
    ),
    "/init_weights_send_group_for_remote_instance": _refused(_SENT),
    "/send_weights_to_remote_instance": _refused(_SENT),
    "/start_expert_distribution_record": (_RECORDER,),
    "/stop_expert_distribution_record": (_RECORDER,),
    "/dump_expert_distribution_record": (_RECORDER,),
    "/slow_down": (_seconds("forward_sleep_time", 1),),
    "/get_weights_by_name": (
        Rule(lambda body, flag: bool(body.get("name")), "name must be the name of a parameter"),
        _integer("truncate_size", 1, 1000),
    ),
    "/abort_request": (
        # SGLang aborts every request whose id begins with rid. Every id begins with an empty one.
        Rule(
            lambda body, flag: body.get("abort_all") is True or bool(body.get("rid")),
            "rid must be the id of a request, or abort_all must be true",
        ),
    ),
    "/pause_generation": (_one_of("mode", "abort", "retract", "in_place"),),
    "/configure_logging": (
        _integer("log_requests_level", 0, 3),
        _one_of("log_requests_format", "text", "json"),
        _integer("dump_requests_threshold", 1, 1_000_000),
        _field("dump_requests_folder", lambda value: value == "" or _writable(value), _FOLDER),
        _field("crash_dump_folder", lambda value: value == "" or _writable(value), _FOLDER),
    ),
    "/start_profile": (
        _field("output_dir", _writable, _FOLDER),
        _integer("start_step", 0, 2**31),
        _integer("num_steps", 1, 2**31),
        _field(
            "activities",
            lambda value: (
                isinstance(value, list) and bool(value) and {"CPU", "GPU"} >= {*map(str, value)}
            ),
            "a list with CPU, GPU or both",
        ),
        _plain("profile_prefix"),
        _plain("profile_id"),
    ),
    "/open_session": (_integer("capacity_of_str_len", 0, 2**31),),
}


class AdministrationGate:
    """ASGI middleware: answers 400 with the message of the first rule that does not hold.

    Websockets are refused. SGLang has one, /v1/realtime, for models that transcribe. Such a model
    is not served with deterministic service, and SGLang lets everybody in, whatever its API keys.
    """

    def __init__(self, app: App, flag: Flag):
        self.app = app
        self.flag = flag

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY})  # 403, before it is accepted
            return
        rules = RULES.get(scope.get("path", "")) if scope["type"] == "http" else None
        if rules is None:
            await self.app(scope, receive, send)
            return
        messages = await read_body(receive)
        body = parsed_object(messages) or {}
        for rule in rules:
            if not rule.holds(body, self.flag):
                refusal = error_response(400, f"{scope['path']}: {rule.message}", code=400)
                await refusal(scope, receive, send)
                return
        await self.app(scope, replay(messages, receive), send)
