"""Logprobs of a deterministic request are read from canonical rows, in SGLang's layout.

They are the model's own: log_softmax of the raw row, before temperature, penalties and masks. So an
output that is scored as a part of a prompt has the bits it had when it was generated.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from sglang.srt.managers.schedule_batch import ReqLogprob

from llm42_sglang.sampling import NO_TOKEN, logprobs, token_logprobs, top_logprobs


class Entry(NamedTuple):
    """What one row says about the token that follows it."""

    token: int
    value: float
    top_values: list[float]
    top_ids: list[int]
    of_ids: list[float]  # of the token ids that the request names


class LogprobReader:
    """Collects entries for one request, and moves them into SGLang's `ReqLogprob`."""

    def __init__(self, target: ReqLogprob):
        self.target = target
        self._committed: deque[Entry] = deque()  # not handed over yet
        self._prompt: dict[int, Entry] = {}  # by the position of the token

    def read(self, rows: torch.Tensor, tokens: Sequence[int]) -> None:
        """Read committed tokens from the rows they were drawn from. rows: [>= len(tokens), vocab].

        A run may end with NO_TOKEN, which has no logprob.
        """
        known = (token for token in tokens if token != NO_TOKEN)
        self._committed += map(self._entry, rows, known)

    def read_prompt(
        self, rows: torch.Tensor, start: int, prompt: Sequence[int], first: int
    ) -> None:
        """Score tokens of the prompt after position `first`. rows: [n, vocab], of positions from
        `start` on.

        A page comes twice where a chunk ended inside it, with the same bits.
        """
        if self.target.input_token_logprobs_val is not None or first < 0:
            return  # scored before a retraction, or not asked for
        for position, row in enumerate(rows, start=start):
            if first <= position < len(prompt) - 1:
                self._prompt[position + 1] = self._entry(row, prompt[position + 1])

    def forget(self) -> None:
        """Drop what was not handed over: it will be committed again."""
        self._committed.clear()

    def forget_prompt(self) -> None:
        """Have the prompt scored again: its rows were those of other weights."""
        self.target.input_token_logprobs_val = None
        self._prompt.clear()

    def hand_over(self, tokens: int) -> None:
        """Give SGLang the entries of the next `tokens` committed tokens, or of all there are: a
        prefill that left no token to choose has committed none."""
        target = self.target
        for _ in range(min(tokens, len(self._committed))):
            entry = self._committed.popleft()
            target.output_token_logprobs_val.append(entry.value)
            target.output_token_logprobs_idx.append(entry.token)
            if target.top_logprobs_num > 0:
                target.output_top_logprobs_val.append(entry.top_values)
                target.output_top_logprobs_idx.append(entry.top_ids)
            if target.token_ids_logprob is not None:
                target.output_token_ids_logprobs_val.append(entry.of_ids)
                target.output_token_ids_logprobs_idx.append(target.token_ids_logprob)

    def hand_over_prompt(self, prompt: Sequence[int], first: int) -> None:
        """Give SGLang the entries of the prompt, once it is prefilled: of tokens from `first` on,
        of which the first has none.

        A negative `first` asks for none of them, as in SGLang.
        """
        target = self.target
        if target.input_token_logprobs_val is not None:
            return
        first = len(prompt) if first < 0 else first
        scored = prompt[first:]
        entries = [self._prompt.pop(p) for p in range(first + 1, len(prompt))]
        nothing = [None] if len(scored) else []
        target.input_token_logprobs_val = nothing + [entry.value for entry in entries]
        target.input_token_logprobs_idx = list(scored)
        target.input_top_logprobs_val, target.input_top_logprobs_idx = [], []
        target.input_token_ids_logprobs_val, target.input_token_ids_logprobs_idx = [], []
        if target.top_logprobs_num > 0:
            target.input_top_logprobs_val = nothing + [entry.top_values for entry in entries]
            target.input_top_logprobs_idx = nothing + [entry.top_ids for entry in entries]
        if target.token_ids_logprob is not None:
            ids = target.token_ids_logprob
            target.input_token_ids_logprobs_val = nothing + [entry.of_ids for entry in entries]
            target.input_token_ids_logprobs_idx = nothing + [ids for _ in entries]

    def _entry(self, row: torch.Tensor, token: int) -> Entry:
        of_row = logprobs(row)  # [vocab]
        top = top_logprobs(of_row, self.target.top_logprobs_num)
        of_ids = token_logprobs(of_row, self.target.token_ids_logprob or ())
        value = of_row[token].item()
        return Entry(token, value, top.values.tolist(), top.ids.tolist(), of_ids.tolist())
