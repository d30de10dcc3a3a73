"""The packages of the extra `tools`. Commands need them, and serving does not."""

from importlib.util import find_spec

from llm42_sglang.errors import UserError

TOOLS = ("accelerate", "gguf", "jinja2", "safetensors")
PACKAGES = {"yaml": "pyyaml", **{name: name for name in TOOLS}}  # names of packages by module


def require(purpose: str, *modules: str) -> None:
    """Raise UserError with status 2 if a module is not installed. purpose: what needs it."""
    for module in modules:
        if find_spec(module) is None:
            error = UserError(
                f"{purpose} needs {PACKAGES[module]}: pip install 'llm42-sglang[tools]'"
            )
            error.status = 2
            raise error
