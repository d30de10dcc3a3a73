"""The attention backends that can run canonical passes, each with its canonical mode.

A slot's results may depend on that slot alone. So an attention kernel must not divide its work by
what else is in the pass. A backend's *mode* is a context manager that sees to this. A pass runs
inside of it, and afterwards everything is as before, so that decode steps keep their kernels.
Certification then measures whether the results are canonical.

A backend that is not in this table is refused by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend
from sglang.srt.model_executor.model_runner import ModelRunner

from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.passes.backends import flash_attention, flashinfer
from llm42_sglang.engine.passes.backends.mode import Mode, unchanged


@dataclass(frozen=True, slots=True)
class Backend:
    """One attention backend of SGLang: its mode, and what the documentation says of it."""

    mode_of: Callable[[Any], Mode]  # of SGLang's AttentionBackend
    canonical: str  # what the mode does; shown in the documentation
    certified_on_cpu: bool = False
    run_on_gpu: str = "**not yet**"


BACKENDS: Mapping[str, Backend] = {
    "flashinfer": Backend(
        flashinfer.mode_of, "runs paged prefill without split-KV, on its own wrappers and workspace"
    ),
    "fa3": Backend(flash_attention.mode_of, "sets `num_splits=1`"),
    "fa4": Backend(flash_attention.mode_of, "sets `num_splits=1`"),
    # TritonAttnBackend.forward_extend calls `extend_attention_fwd` and its `_fwd_kernel`.
    "triton": Backend(unchanged, "nothing: its extend kernel never splits the context"),
    "torch_native": Backend(
        unchanged, "nothing: it runs one request after the other", certified_on_cpu=True
    ),
    "llm42_cpu": Backend(
        unchanged,
        "nothing: it is built for this (`platform/attention.py`)",
        certified_on_cpu=True,
        run_on_gpu="not for GPUs",
    ),
}


def require_known(name: str | None) -> None:
    """Raise UnsupportedError unless the backend of this name has a canonical mode."""
    if name not in BACKENDS:
        raise UnsupportedError(
            f"--attention-backend {name} has no canonical mode; choose one of "
            f"{', '.join(BACKENDS)} (the last one by naming none on a CPU)"
        )


def canonical_mode(runner: ModelRunner) -> Mode:
    """Return the mode in which this runner's canonical passes run: `with mode(): ...`.

    Raises UnsupportedError if its prefill backend, or its kind of attention, has no canonical mode.
    """
    name = runner.prefill_attention_backend_str
    require_known(name)
    if runner.use_mla_backend:
        # attention_backend_handler picks the kernel by the sum of the pass's prefix lengths.
        raise UnsupportedError(
            "models with multi-head latent attention choose its kernel by what else is in the "
            "pass; serve this one without llm42"
        )
    backend = runner.attn_backend
    if isinstance(backend, HybridAttnBackend):  # a pass is in EXTEND mode
        backend = backend.prefill_backend
    return BACKENDS[name].mode_of(backend)


def table() -> str:
    """Return the backends as a Markdown table for the documentation."""
    rows = [
        "| attention backend | what its canonical mode does | certified on a CPU | run on a GPU |",
        "|---|---|---|---|",
    ]
    for name, backend in BACKENDS.items():
        on_cpu = "yes" if backend.certified_on_cpu else "no"
        rows.append(f"| `{name}` | {backend.canonical} | {on_cpu} | {backend.run_on_gpu} |")
    return "\n".join(rows)
