"""Run as a process: it tries what the patched server of tests/engine does not show of text patches.

    python patch_probe.py FOLDER

FOLDER holds `sglang/...`. Modules that are not there come from the installed wheel. The output is a
JSON object of probes, with "passed" or an error for each.
"""

import importlib.util
import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from unittest import mock

import msgspec
import pytest


class Overlay(MetaPathFinder):
    """Finds modules in the folder before the wheel is asked."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(self, name, path=None, target=None):
        file = self.folder / f"{name.replace('.', '/')}.py"
        return importlib.util.spec_from_file_location(name, file) if file.is_file() else None


def sampling_params() -> None:
    """The field does not change the wire format, and is refused where it would be ignored."""
    from sglang.srt.sampling import sampling_params as module

    params = module.SamplingParams(deterministic=True, custom_params={"thinking_budget": 3})
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(params))
    of_pristine = msgspec.msgpack.decode(msgspec.msgpack.encode(fields[:-1]), type=type(params))
    assert of_pristine.custom_params == {"deterministic": True, "thinking_budget": 3}
    for provider, custom_params, message in (
        (None, None, "no plugin of this server provides it"),
        ("a plugin", {"deterministic": False}, "contradict"),
        ("a plugin", [1], "must be an object"),
    ):
        module.DETERMINISM_PROVIDER = provider
        params = module.SamplingParams(deterministic=True, custom_params=custom_params)
        with pytest.raises(ValueError, match=message):
            params.verify(vocab_size=100)


def frontend_language() -> None:
    """The option of a program reaches each request. Backends that do not know it refuse it."""
    import sglang as sgl
    from sglang.lang.backend.base_backend import BaseBackend
    from sglang.lang.choices import ChoicesDecision

    class Backend(BaseBackend):
        def generate(self, s, sampling_params):
            options.append(sampling_params.to_srt_kwargs())
            return "1", {}

        def select(self, s, choices, temperature, choices_method, **given):
            options.append(given)
            return ChoicesDecision(choices[0])

    @sgl.function
    def program(s):
        s += "x" + sgl.gen("a") + sgl.gen("b", choices=["x", "y"]) + sgl.select("c", ["x", "y"])

    options: list[dict] = []
    backend = Backend()
    backend.support_deterministic = True
    program.run(backend=backend, use_thread=False, deterministic=True)
    assert [option["deterministic"] for option in options] == [True] * 3
    options.clear()
    program.run(backend=backend, use_thread=False)
    assert len(options) == 3 and not any("deterministic" in option for option in options)
    with pytest.raises(ValueError, match="deterministic: not supported by BaseBackend"):
        program.run(backend=BaseBackend(), use_thread=False, deterministic=True)


def server_flags() -> None:
    """`sglang serve` passes llm42 flags on. If llm42 is not installed, its error says so."""
    from sglang import launch_server
    from sglang.cli import serve

    from llm42_sglang.cli import main

    missing = ModuleNotFoundError(name="llm42_sglang")
    no_import = mock.patch("builtins.__import__", side_effect=missing)
    with pytest.raises(SystemExit, match="install it"), no_import:
        launch_server.serve_with_llm42([])
    argv = ["a/model", "--model-type", "llm", "--llm42-page", "16"]
    with mock.patch.object(main, "main", side_effect=SystemExit) as ours, pytest.raises(SystemExit):
        serve.serve(None, argv)
    ours.assert_called_once_with(["serve", "--model-path", "a/model", "--llm42-page", "16"])


def main(folder: str) -> None:
    sys.meta_path.insert(0, Overlay(Path(folder)))
    results = {}
    for probe in (sampling_params, frontend_language, server_flags):
        try:
            probe()
            results[probe.__name__] = "passed"
        except (Exception, pytest.fail.Exception) as error:
            results[probe.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
