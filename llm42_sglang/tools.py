"""Packages that serving does without: those of the extra `tools` that a command asks for itself."""

from importlib.util import find_spec

from llm42_sglang.errors import UserError

TOOLS = ("accelerate", "gguf", "jinja2", "safetensors")
PACKAGES = {"yaml": "pyyaml", **{name: name for name in TOOLS}}  # by module


def require(purpose: str, *modules: str) -> None:
    """Raises UserError, status 2, if one of these modules is not installed."""
    for module in modules:
        if find_spec(module) is None:
            error = UserError(
                f"{purpose} needs {PACKAGES[module]}: pip install 'llm42-sglang[tools]'"
            )
            error.status = 2
            raise error
