"""SGLang's front process without a server: its own classes, and a scheduler that plays tokens.

Everything from `TokenizerManager.generate_request` to the events of an endpoint is SGLang's. What
stands for scheduler and detokenizer sends what a commit sends: one message a token, or one in
`interval` tokens. `cuts` says after which of them the reader gets its turn.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

from sglang.srt.managers.io_struct import AbortReq, BatchStrOutput, TokenizedGenerateReqInput
from sglang.srt.managers.tokenizer_manager import TokenizerManager
from sglang.srt.parser.template_manager import TemplateManager
from sglang.srt.runtime_context import publish, restore_context, snapshot_context
from sglang.srt.server_args import PortArgs, prepare_server_args

from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.engine.front.stream import keep_messages, stream_one_by_one
from llm42_sglang.frontend.options import FIELD

PROMPT_TOKENS = 7


class Token(NamedTuple):
    id: int
    text: str


class Play(NamedTuple):
    """What the model says, and how it comes in."""

    tokens: list[Token]
    cuts: Collection[int] | None = None  # messages; None: the reader looks at every one
    kept_apart: bool = False  # as those of a deterministic request are
    interval: int = 1  # tokens, of SGLang's flag
    abort_at: int | None = None  # tokens that come in before an abort


class Front(TokenizerManager):
    """Every request is answered with what `play` says; sample i leaves out its first i tokens."""

    play: Play
    samples: int  # of this request, so far

    def _dispatch_to_scheduler(self, obj: Any) -> None:
        if not isinstance(obj, TokenizedGenerateReqInput):
            return
        if self.play.kept_apart:
            obj.sampling_params.custom_params = {FIELD: True}
            keep_messages(self, [obj])
        tokens = []
        if obj.sampling_params.max_new_tokens != 0:  # it is no warm-up
            tokens = self.play.tokens[self.samples :]
            self.samples += 1
        task = asyncio.create_task(self._answer(obj, tokens))
        self.asyncio_tasks.add(task)
        task.add_done_callback(self.asyncio_tasks.discard)

    async def _answer(self, obj: TokenizedGenerateReqInput, tokens: list[Token]) -> None:
        play, state = self.play, self.rid_to_state[obj.rid]
        edges = [0, *range(1, len(tokens), play.interval), len(tokens)]
        for number, (start, end) in enumerate(pairwise(edges)):
            if play.abort_at is not None and start >= play.abort_at:
                self._handle_abort_req(AbortReq(rid=obj.rid, abort_message="aborted"))
                return
            await self._handle_batch_output(message(obj, tokens, start, end))
            if play.cuts is None or number in play.cuts:
                await _read(state)

    def auto_create_handle_loop(self) -> None:
        """Nothing comes in by a socket."""

    async def _stream_one_response(self, obj, state, request=None) -> AsyncIterator[dict]:
        original = TokenizerManager._stream_one_response
        async for out in stream_one_by_one(original, self, obj=obj, state=state, request=request):
            yield out


async def _read(state: Any) -> None:
    """Until the reader has taken what there is and waits again."""
    while state.out_list:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)


def message(
    obj: TokenizedGenerateReqInput, tokens: list[Token], start: int, end: int
) -> BatchStrOutput:
    """That tokens[start:end] have come. Logprobs are made up: each place and token has its own."""
    new = tokens[start:end]
    logprobs = [-(start + i) / 8 for i in range(len(new))]
    top = [[value, value - 1][: obj.top_logprobs_num] for value in logprobs]
    top_ids = [[token.id, 1][: obj.top_logprobs_num] for token in new]
    asked = obj.token_ids_logprob or []
    known = {
        "finished_reasons": {"type": "stop", "matched": None} if end == len(tokens) else None,
        "output_strs": "".join(token.text for token in new),
        "output_ids": [token.id for token in new],
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": end,
        "reasoning_tokens": 0,
        "cached_tokens": 0,
        "retraction_counts": 0,
    }
    if obj.return_logprob:
        known |= {
            "output_token_logprobs_val": logprobs,
            "output_token_logprobs_idx": [token.id for token in new],
            "output_top_logprobs_val": top,
            "output_top_logprobs_idx": top_ids,
            "output_token_ids_logprobs_val": [[value] * len(asked) for value in logprobs],
            "output_token_ids_logprobs_idx": [asked] * len(new),
        }
    fields = dict.fromkeys(BatchStrOutput.__struct_fields__)
    return BatchStrOutput(
        **fields | {name: [value] for name, value in known.items()} | {"rids": [obj.rid]}
    )


@contextmanager
def front(**flags: Any) -> Iterator[tuple[Front, TemplateManager]]:
    """One with these settings; afterwards SGLang's are as before."""
    before = snapshot_context()
    model = str(ensure_default_model())
    arguments = ["--model-path", model, "--device", "cpu", "--attention-backend", "torch_native"]
    args = prepare_server_args(arguments)
    args.resolve_once()
    publish(args, role="tokenizer")
    try:
        manager = Front(args, PortArgs.init_new(args))
        templates = TemplateManager()
        templates.initialize_templates(manager, model)
        yield manager, templates
    finally:
        restore_context(before)


def http_request() -> SimpleNamespace:
    """One whose client stays."""

    async def stays() -> bool:
        return False

    return SimpleNamespace(headers={}, state=SimpleNamespace(), is_disconnected=stays)
