"""The seams table with the fingerprints of what is installed, for a person to paste."""

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from llm42_sglang.cli.upstream.modules import Modules
from llm42_sglang.cli.upstream.symbols import find
from llm42_sglang.engine.seams import Seam, fingerprint
from llm42_sglang.engine.seams.seam import digest

GONE = "????????"


Signature = Callable[[Seam, Modules], str]


def stamped(seams: Sequence[Seam], modules: Modules, signature_of: Signature) -> Iterator[str]:
    """Lines of a table of `engine/seams/table.py`, in its order.

    A symbol that is gone has question marks for fingerprints, so that the table does not fit.
    """
    rows = [(*_split(modules, seam.path), signature_of(seam, modules), seam) for seam in seams]
    for module, group in groupby(rows, key=lambda row: row[0]):
        lines = list(group)
        yield module
        width = max(len(signature) for _, _, signature, _ in lines)
        for _, name, signature, seam in lines:
            symbol = find(modules, seam.path)
            body = symbol.body if symbol else GONE
            yield f"  {signature:<{width}} {body}  {name}  {seam.why}"


def _split(modules: Modules, path: str) -> tuple[str, str]:
    """(module, symbol in it)"""
    module, name = path.rpartition(".")[::2]
    while modules.get(module) is None and "." in module:
        module, _, owner = module.rpartition(".")
        name = f"{owner}.{name}"
    return module, name


def static(seam: Seam, modules: Modules) -> str:
    """The signature as the sources have it, for GPU_TABLE."""
    symbol = find(modules, seam.path)
    return digest(symbol.signature) if symbol else GONE


def runtime(seam: Seam, _: Modules) -> str:
    """The signature as it is when imported, for TABLE. Imports SGLang."""
    try:
        now = fingerprint(pkgutil.resolve_name(seam.path))
    except (ImportError, AttributeError):
        return GONE
    if seam.patched is None:
        return now
    # Of the two, the one that is not installed cannot be measured here.
    return f"{seam.signature}|{now}" if now != seam.signature else f"{now}|{seam.patched}"
