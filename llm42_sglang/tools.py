"""Packages that serving does without: those of the extra `tools` that a command asks for itself."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from llm42_sglang.errors import UserError

PACKAGES = {  # module -> package
    "accelerate": "accelerate",
    "gguf": "gguf",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "safetensors": "safetensors",
    "yaml": "pyyaml",
}


def require(purpose: str, *modules: str) -> None:
    """Raises UserError, status 2, if one of these modules is not installed."""
    for module in modules:
        if find_spec(module) is None:
            error = UserError(
                f"{purpose} needs {PACKAGES[module]}: pip install 'llm42-sglang[tools]'"
            )
            error.status = 2
            raise error


def drawn(*modules: str) -> Callable[[Path | None], Path | None]:
    """The callback of an option that names a file to draw: `require` before the work, not after."""

    def check(path: Path | None) -> Path | None:
        if path is not None:
            require(f"drawing {path}", *modules)
        return path

    return check
