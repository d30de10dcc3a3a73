"""How the fingerprint names the weights: by what they hold, or by what a trainer calls them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from blake3 import blake3
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.runtime_context import get_serving

from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.weights.digest import WeightsDigest
from llm42_sglang.engine.weights.report import VERSION_MARK


class Naming(Protocol):
    """Names the weights of all ranks."""

    @property
    def name(self) -> str:
        """The name of the weights as they were at the last `refresh`."""

    sees_changes: bool  # whether a changed tensor always changes the name

    def refusal(self, version: str | None, whole: bool) -> str | None:
        """Why an update must not come, or None.

        version: the `weight_version` that it names; "" where it cannot name one. whole: whether it
        is an update by itself, and no part of a session.
        """

    def watching(self) -> AbstractContextManager[None]:
        """Note what is written meanwhile."""

    def refresh(self, everything: bool) -> None:
        """Look at the weights again, be it all of them or what was written. All ranks do this
        together."""


class ByContent:
    """One digest over the digests of all ranks' weights, in the order of the ranks."""

    sees_changes = True

    def __init__(self, runner: ModelRunner, ranks: Ranks):
        self._ranks = ranks
        self._digest = WeightsDigest(runner.model)
        self.name = self._of_all()

    def refusal(self, version: str | None, whole: bool) -> None:
        """Every update may come: its weights will be looked at."""

    def watching(self) -> AbstractContextManager[None]:
        """Note which tensors are written meanwhile: only these are hashed again."""
        return self._digest.watching()

    def refresh(self, everything: bool) -> None:
        """Hash again what was written, or everything. All ranks do this together."""
        if everything:
            self._digest.rehash()
        else:
            self._digest.refresh()
        self.name = self._of_all()

    def _of_all(self) -> str:
        digests = self._ranks.gather(self._digest.value)
        if len(digests) == 1:
            return digests[0]
        return blake3("".join(digests).encode()).hexdigest()


class ByVersion:
    """SGLang's `weight_version`, which is believed. Nothing is hashed."""

    sees_changes = False

    def __init__(self) -> None:
        self._of_session: str | None = None  # the version that the loads of a session name

    def refusal(self, version: str | None, whole: bool) -> str | None:
        """Every update must name another version. All loads of a session name the same one."""
        if version == "":  # the begin or the end of a session
            self._of_session = None
            return None
        serving = get_serving().weight_version
        if version is None or (version == serving and (whole or version != self._of_session)):
            return (
                "this server knows weights by their version (--llm42-weights-digest version), so "
                f"an update must name a weight_version other than {serving!r}"
            )
        self._of_session = version
        return None

    @property
    def name(self) -> str:
        """The version in force, marked as a version."""
        return VERSION_MARK + get_serving().weight_version

    def watching(self) -> AbstractContextManager[None]:
        """Nothing needs to be noted."""
        return nullcontext()

    def refresh(self, everything: bool) -> None:
        """Nothing needs to be looked at: SGLang keeps the version."""
