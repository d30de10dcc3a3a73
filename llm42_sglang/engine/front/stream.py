"""A deterministic stream shows its client one message of the scheduler at a time.

A pass may commit several tokens, and their messages come together, one for each token. SGLang's
front process joins messages that its HTTP handler has not taken yet. But its parsers of tool calls
and of reasoning are written for one token at a time, and lose parts of several.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any, NamedTuple
from weakref import proxy

from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
from sglang.srt.managers.tokenizer_manager import ReqState

from llm42_sglang.engine.hooks import around
from llm42_sglang.frontend.options import FIELD

_MANAGER = "sglang.srt.managers.tokenizer_manager.TokenizerManager"
# Of meta_info; each has an entry per token, and all messages share the request's one list.
_GROWING = ("output_token_logprobs", "output_top_logprobs", "output_token_ids_logprobs")


class _Lengths(NamedTuple):
    """How long a request's output was when a message came in."""

    text: int  # characters; 0 where the message brings its own text
    ids: int


class Messages(deque[dict[str, Any]]):
    """The messages of one request. They stand in for `ReqState.out_list`, and for its reader also
    for `ReqState.event`.

    Lengths are kept, not copies. So a slow reader costs memory for every token once.
    """

    def __init__(self, state: ReqState):
        super().__init__()
        self._state = proxy(state)  # which has these messages: without a cycle, it goes at its end
        self._lengths: deque[_Lengths] = deque()

    def append(self, message: dict[str, Any]) -> None:
        """SGLang adds a message. The state has all of its text and tokens already."""
        state = self._state
        text = len(state.get_text()) if message.get("text", "") is None else 0
        self._lengths.append(_Lengths(text, len(state.output_ids)))
        super().append(message)

    def take(self) -> dict[str, Any]:
        """Remove the next message. Text and lists are as they were when it came in."""
        message, lengths, state = dict(self.popleft()), self._lengths.popleft(), self._state
        if message.get("text", "") is None:
            message["text"] = state.get_text()[: lengths.text]
        if id(message.get("output_ids")) == id(state.output_ids):
            message["output_ids"] = state.output_ids[: lengths.ids]
        meta: dict[str, Any] = dict(message["meta_info"])
        message["meta_info"] = meta
        for name in _GROWING:
            shared = getattr(state, name)
            if id(meta.get(name)) == id(shared):
                meta[name] = shared[: meta["output_token_logprobs_length"]]
        return message

    async def wait(self) -> None:
        """Wait until there is a message. Other tasks run in any case."""
        await asyncio.sleep(0)
        if not self:
            await self._state.event.wait()

    def clear(self) -> None:
        """The reader has taken a message. The event stays set while others are left."""
        if not self:
            self._state.event.clear()


class OneAtATime:
    """A view of a `ReqState` that never has more than one message."""

    def __init__(self, state: ReqState, messages: Messages):
        self._state = state
        self._messages = messages
        self.event = messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    @property
    def out_list(self) -> list[dict[str, Any]]:
        """A list of the next message, which is taken."""
        return [self._messages.take()]

    @out_list.setter
    def out_list(self, emptied: list) -> None:
        """SGLang empties the list when it has read it. There is nothing to do."""

    @property
    def finished(self) -> bool:
        """Whether the last message has been taken."""
        return self._state.finished and not self._messages


def keep_messages(manager: Any, requests: Iterable[Any]) -> None:
    """Called before these requests are sent. Deterministic ones keep their messages apart."""
    for request in requests:
        if isinstance(request, TokenizedGenerateReqInput) and _is_deterministic(request):
            state = manager.rid_to_state.get(request.rid)
            if state is not None:  # its client has not left
                state.out_list = Messages(state)


@around(
    f"{_MANAGER}._send_batch_request",
    "keep the messages of a deterministic stream apart",
    serving_only=True,
)
async def send_batch(original, manager, requests) -> None:
    """As `Gatekeeper.number_samples`, for a batch that is sent as one."""
    keep_messages(manager, requests)
    await original(manager, requests)


@around(
    f"{_MANAGER}._stream_one_response",
    "read a deterministic stream message by message",
    serving_only=True,
)
def stream_one_by_one(
    original, manager, obj, state: ReqState, request=None
) -> AsyncGenerator[dict[str, Any], None]:
    """Show SGLang's reader one message at a time."""
    messages = state.out_list
    view = OneAtATime(state, messages) if isinstance(messages, Messages) else state
    return original(manager, obj=obj, state=view, request=request)


def _is_deterministic(request: TokenizedGenerateReqInput) -> bool:
    return (request.sampling_params.custom_params or {}).get(FIELD) is True
