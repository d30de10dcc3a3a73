"""How the fingerprint names the weights: by what they hold, or by what a trainer calls them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from blake3 import blake3
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.runtime_context import get_serving

from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.weights.digest import WeightsDigest, Writes, other_threads
from llm42_sglang.engine.weights.report import VERSION_MARK


class Naming(Protocol):
    """Names the weights of all ranks."""

    @property
    def name(self) -> str:
        """The name of the weights as they were at the last `refresh`."""

    def refusal(self, version: str | None, mended: bool) -> str | None:
        """Why a load must not come, or None.

        version: the `weight_version` that it names. mended: whether it comes after one that failed
        half way.
        """

    def session(self, is_open: bool) -> None:
        """A session of loads has begun or ended."""

    def watching(self) -> AbstractContextManager[None]:
        """Note what is written meanwhile."""

    def refresh(self, everything: bool) -> bool:
        """Look at the weights again, be it all of them or what was written. Returns whether they
        may be others without another name. All ranks do this together."""


class ByContent:
    """One digest over the digests of all ranks' weights, in the order of the ranks."""

    def __init__(self, runner: ModelRunner, ranks: Ranks):
        self._ranks = ranks
        self._digest = WeightsDigest(runner.model)
        self.name = self._of_all()

    def refusal(self, version: str | None, mended: bool) -> None:
        """Every load may come: its weights will be looked at."""

    def session(self, is_open: bool) -> None:
        """Weights of the middle of a session have a digest like others."""

    def watching(self) -> AbstractContextManager[None]:
        """Note which tensors are written meanwhile: only these are hashed again."""
        return self._digest.watching()

    def refresh(self, everything: bool) -> bool:
        """Hash again what was written, or everything. All ranks do this together."""
        if everything:
            self._digest.rehash()
        else:
            self._digest.refresh()
        self.name = self._of_all()
        return False

    def _of_all(self) -> str:
        digests = self._ranks.gather(self._digest.value)
        if len(digests) == 1:
            return digests[0]
        return blake3("".join(digests).encode()).hexdigest()


class ByVersion:
    """SGLang's `weight_version`, which is believed. Nothing is hashed.

    In the middle of a session the name says how many loads have come.
    """

    def __init__(self, runner: ModelRunner, ranks: Ranks) -> None:
        self._runner = runner
        self._ranks = ranks
        self._writes = Writes()
        self._loads: int | None = None  # of the session; None outside of one
        self._of_session: str | None = None  # the version that its loads name
        self._wrote = False  # another thread may have

    @property
    def name(self) -> str:
        """The version in force, marked as a version."""
        part = "" if self._loads is None else f", after {self._loads} loads of a session"
        return VERSION_MARK + get_serving().weight_version + part

    def refusal(self, version: str | None, mended: bool) -> str | None:
        """Every load must name another version than the last. All loads of a session name the same
        one."""
        serving = get_serving().weight_version
        known = version == serving and version != self._of_session and not mended
        if not version or known:
            return (
                "this server knows weights by their version (--llm42-weights-digest version), so "
                f"an update must name a weight_version other than {serving!r}"
            )
        self._of_session = version if self._loads is not None else None
        return None

    def session(self, is_open: bool) -> None:
        """Count the loads of a session."""
        self._loads, self._of_session = (0 if is_open else None), None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note whether anything is written meanwhile."""
        self._writes.storages.clear()
        self._wrote = False
        with other_threads(self._note), self._writes:
            yield

    def refresh(self, everything: bool) -> bool:
        """SGLang keeps the version. All ranks do this together."""
        wrote = everything or self._wrote or bool(self._writes.storages & self._storages())
        wrote = any(self._ranks.gather(wrote))
        if self._loads is not None:
            self._loads += wrote
        return wrote

    def _storages(self) -> set[int]:
        tensors = self._runner.model.state_dict().values()
        return {tensor.untyped_storage().data_ptr() for tensor in tensors}

    def _note(self) -> None:
        self._wrote = True
