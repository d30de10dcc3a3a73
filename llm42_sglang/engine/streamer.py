"""Output: a stream carries committed tokens only, and a finished response carries its receipt."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer

from llm42_sglang.engine.names import AUDIT_KEY, RECEIPT_KEY
from llm42_sglang.engine.request import DeterministicReq


class DeterministicOutputStreamer(SchedulerOutputStreamer):
    """Says nothing for steps that committed nothing, and can hold streams back for a forward; adds
    receipts, and the word that an audit has failed, to everybody's output: the front process must
    hear of it at once."""

    __slots__ = ("_held",)
    audit_failed: ClassVar[bool] = False  # of this process
    has_additional_customized_info: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._held: list[Callable[[], None]] | None = None  # to send later; None: send at once

    def hold(self) -> None:
        """Until `release`, keep what continues an ordinary stream.

        For results that are taken early where a forward blocks SGLang's overlap loop. The loop
        sends a step's tokens after the next forward; a verification needs to see them before, and
        the next ones come two steps after it. Sent when seen, they would leave a gap of all that;
        kept until the next forward is over, whatever it is, there is one forward in every gap but
        where a pass is followed by two steps.
        """
        self._held = self._held or []

    def release(self) -> None:
        """Send what was kept, in order; nothing more is."""
        held, self._held = self._held or [], None
        for send in held:
            send()

    def _stream_output_generation(self, reqs: list[Req], *args, **kwargs) -> None:
        send = super()._stream_output_generation
        now = [req for req in reqs if _has_news(req)]
        if self._held is not None and (later := [req for req in now if _continues(req)]):
            now = [req for req in now if not _continues(req)]
            self._held.append(partial(send, later, *args, **kwargs))
        send(now, *args, **kwargs)

    def build_additional_customized_info(self, reqs: list[Req]) -> dict[str, list]:
        """One list per request, as SGLang wants it: the receipt, or nothing."""
        info: dict[str, list] = {RECEIPT_KEY: [_receipts(req) for req in reqs]}
        if self.audit_failed:
            info[AUDIT_KEY] = [[True] for _ in reqs]
        return info

    def is_request_level_customized_info_key(self, key: str) -> bool:
        """They speak of the request, not of each token."""
        return key in (RECEIPT_KEY, AUDIT_KEY)


def _has_news(req: Req) -> bool:
    if not isinstance(req, DeterministicReq) or req.finished():
        return True
    return len(req.output_ids) > req.send_token_offset


def _continues(req: Req) -> bool:
    """An ordinary stream in its middle. First tokens and ends go out at once, and so do runs that
    a pass has committed."""
    ordinary = not isinstance(req, DeterministicReq)
    return ordinary and req.send_token_offset > 0 and not req.finished()


def _receipts(req: Req) -> list[dict]:
    if not isinstance(req, DeterministicReq) or not req.finished() or req.refused:
        return []
    return [req.receipt().as_dict()]
