"""Run as a process: does SGLang, files of the wheel replaced by those of a folder, do what the
text patches are for?

    python patch_probe.py FOLDER

FOLDER holds `sglang/...`; modules that are not there come from the installed wheel. Prints one JSON
object: probe -> what it returned or "passed", or the error it ended with.
"""

import contextlib
import importlib.util
import io
import json
import runpy
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec


class Overlay(MetaPathFinder):
    """Finds modules in the folder before the wheel is asked."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(self, name, path=None, target=None):
        file = self.folder / f"{name.replace('.', '/')}.py"
        return importlib.util.spec_from_file_location(name, file) if file.is_file() else None


def sampling_params() -> None:
    """The native field: where it goes, and what is refused."""
    from sglang.srt.sampling import sampling_params as module

    from llm42_sglang.engine import plugin, seams

    def refusal(**params) -> str | None:
        try:
            module.SamplingParams(**params).verify(vocab_size=100)
        except ValueError as error:
            return str(error)
        return None

    params = module.SamplingParams(deterministic=True, custom_params={"thinking_budget": 3})
    params.normalize(None)
    folded = {"deterministic": True, "thinking_budget": 3}
    assert params.custom_params == folded
    assert module.SamplingParams(deterministic=False).custom_params == {"deterministic": False}
    assert module.SamplingParams().custom_params is None
    sent = msgspec.msgpack.encode(params)
    assert msgspec.msgpack.decode(sent, type=type(params)) == params
    of_pristine = msgspec.msgpack.encode(msgspec.msgpack.decode(sent)[:-1])
    assert msgspec.msgpack.decode(of_pristine, type=type(params)).custom_params == folded
    assert refusal(deterministic=True) == (
        "deterministic: no plugin of this server provides it; start the server with `llm42 serve`."
    )
    assert refusal(deterministic=False) is None
    seams.check(tuple(seam for seam in seams.SEAMS if seam.patched))
    plugin._claim_field()
    assert refusal(deterministic=True) is None
    assert "must be true or false, got 'yes'" in refusal(deterministic="yes")
    assert "contradict" in refusal(deterministic=True, custom_params={"deterministic": False})
    assert "must be an object, got [1]" in refusal(deterministic=True, custom_params=[1])


def openai_protocol() -> None:
    """Sampling parameters of each endpoint's request, as far as they tell about determinism."""
    from sglang.srt.entrypoints.openai import protocol
    from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion

    def told(params: dict[str, Any]) -> dict[str, Any]:
        names = ("deterministic", "sampling_seed", "custom_params")
        return {name: params[name] for name in names if name in params}

    build = OpenAIServingCompletion._build_sampling_params
    unset = protocol.CompletionRequest(prompt="x")
    assert told(build(None, unset)) == {"sampling_seed": None, "custom_params": None}
    custom = {"custom_params": {"deterministic": True}}
    extra = {"deterministic": True, "seed": 7, **custom}
    responses = protocol.ResponsesRequest(input="x", **extra).to_sampling_params()
    chat = protocol.ChatCompletionRequest(messages=[{"role": "user", "content": "x"}], **extra)
    asked = {"deterministic": True, "sampling_seed": 7}
    assert told(responses) == asked  # as shipped /v1/responses has no way in at all
    assert told(chat.to_sampling_params(stop=[], model_generation_config={})) == asked | custom
    assert told(build(None, protocol.CompletionRequest(prompt="x", **extra))) == asked | custom


def frontend_unchanged() -> list[dict[str, Any]]:
    """The requests of a program that does not ask for determinism: the same as shipped."""
    return _requests(_plain_program())


def frontend_language() -> None:
    """The sampling parameters of every request that a program sends."""
    import sglang as sgl
    from sglang.lang.backend.base_backend import BaseBackend

    @sgl.function
    def program(s):
        s += "x" + sgl.gen("a", deterministic=True, sampling_seed=7)
        s += sgl.gen_int("b", deterministic=True)
        s += sgl.gen_string("c", deterministic=True)
        s += sgl.gen("d", choices=["x", "y"], deterministic=True)
        method = sgl.unconditional_likelihood_normalized
        s += sgl.select("e", ["x", "y"], choices_method=method, deterministic=True)

    asked = _requests(program)
    # gen, gen_int, gen_string; two requests to score choices, a third for unconditional scores
    assert [one["deterministic"] for one in asked] == [True] * (1 + 1 + 1 + 2 + 3)
    assert asked[0]["sampling_seed"] == 7
    by_default = _requests(_plain_program(), deterministic=True)
    assert [one["deterministic"] for one in by_default] == [True] * (1 + 2)
    try:
        program.run(backend=BaseBackend(), use_thread=False)
    except ValueError as error:
        assert str(error) == "deterministic, sampling_seed: not supported by BaseBackend"
    else:
        raise AssertionError("a backend that does not know the option ignores it")


def server_flags() -> None:
    """What SGLang's two launchers do with our flags."""
    from sglang.cli import serve

    from llm42_sglang.cli import main

    def module() -> None:
        runpy.run_module("sglang.launch_server", run_name="__main__")

    status, said = _leaves(module, ["launch_server", "--llm42-page", "24"])
    assert (status, said.partition(" is not")[0]) == (1, "llm42: error: --llm42-page 24")
    argv = ["a/model", "--model-type", "llm", "--llm42-page", "16"]
    with mock.patch.object(main, "main", side_effect=SystemExit) as ours:
        _leaves(lambda: serve.serve(None, argv), argv)
    ours.assert_called_once_with(["serve", "--model-path", "a/model", "--llm42-page", "16"])
    others = {name: found for name, found in sys.modules.items() if "llm42_sglang" not in name}
    finders = [SimpleNamespace(find_spec=_find_no_llm42), *sys.meta_path]
    with (
        mock.patch.dict(sys.modules, others, clear=True),
        mock.patch.object(sys, "meta_path", finders),
    ):
        told, _ = _leaves(module, ["launch_server", "--llm42-default"])
    assert "install it into this environment" in told


def _find_no_llm42(name: str, *_: object) -> None:
    if name == "llm42_sglang":
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _plain_program():
    import sglang as sgl

    @sgl.function
    def program(s):
        s += "x" + sgl.gen("a", max_tokens=3) + sgl.select("b", ["x", "y"])

    return program


def _requests(program, **options) -> list[dict[str, Any]]:
    from sglang.lang.backend import runtime_endpoint

    sent: list[dict[str, Any]] = []

    def http_request(url, json=None, **_):
        if json is None:
            return SimpleNamespace(status_code=200, json=lambda: {"model_path": "x"})
        sent.append(json["sampling_params"])
        scores = [[-1.0, 5, "q"], [-2.0, 6, "x"]]
        meta = {"prompt_tokens": 3, "input_token_logprobs": scores, "output_token_logprobs": []}
        one = {"text": "1", "meta_info": meta}
        many = json.get("input_ids", json.get("text"))
        answer = [one] * len(many) if isinstance(many, list) else one
        return SimpleNamespace(status_code=200, json=lambda: answer)

    runtime_endpoint.http_request = http_request
    backend = runtime_endpoint.RuntimeEndpoint("http://nowhere")
    program.run(backend=backend, use_thread=False, **options)
    return sent


def _leaves(function: Callable[[], object], argv: list[str]) -> tuple[Any, str]:
    """What a command leaves with: its exit status or message, and all that it wrote on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), mock.patch.object(sys, "argv", argv):
        try:
            function()
        except SystemExit as error:
            return error.code, said.getvalue().strip().rpartition("\n")[2]
    return "went on", ""


PROBES = (sampling_params, openai_protocol, frontend_unchanged, frontend_language, server_flags)


def main(folder: str) -> None:
    sys.meta_path.insert(0, Overlay(Path(folder)))
    found = {}
    for probe in PROBES:
        try:
            found[probe.__name__] = probe() or "passed"
        except Exception as error:
            found[probe.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
