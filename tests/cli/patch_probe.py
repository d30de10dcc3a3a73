"""Run as a process: what SGLang does with files of the wheel replaced by those of a folder.

    python patch_probe.py FOLDER

FOLDER holds `sglang/...`; modules that are not there come from the installed wheel. Prints one JSON
object: probe -> what it returned, or the error it raised.
"""

import contextlib
import importlib.util
import io
import json
import runpy
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec


class Overlay(MetaPathFinder):
    """Finds modules in the folder before the wheel is asked."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(self, name, path=None, target=None):
        file = self.folder / f"{name.replace('.', '/')}.py"
        return importlib.util.spec_from_file_location(name, file) if file.is_file() else None


def sampling_params() -> dict[str, Any]:
    """The native field: where it goes, and what is refused."""
    from sglang.srt.sampling import sampling_params as module

    def verdict(**params) -> str:
        try:
            module.SamplingParams(**params).verify(vocab_size=100)
        except ValueError as error:
            return str(error)
        return "accepted"

    params = module.SamplingParams(deterministic=True, custom_params={"thinking_budget": 3})
    params.normalize(None)
    sent = msgspec.msgpack.encode(params)
    shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(sent)[:-1])
    found = {
        "folded": params.custom_params,
        "alone": module.SamplingParams(deterministic=False).custom_params,
        "unset": module.SamplingParams().custom_params,
        "survives the wire": msgspec.msgpack.decode(sent, type=type(params)) == params,
        "reads the wire of a pristine wheel": msgspec.msgpack.decode(
            shorter, type=type(params)
        ).custom_params,
        "unclaimed": verdict(deterministic=True),
        "unclaimed, false": verdict(deterministic=False),
    }
    from llm42_sglang.engine import plugin, seams

    seams.check(seams.SEAMS)
    plugin._claim_field()
    return found | {
        "claimed": verdict(deterministic=True),
        "not boolean": verdict(deterministic="yes"),
        "contradiction": verdict(deterministic=True, custom_params={"deterministic": False}),
        "malformed custom_params": verdict(deterministic=True, custom_params=[1]),
    }


def openai_protocol() -> dict[str, Any]:
    """Sampling parameters of each endpoint's request, as far as they tell about determinism."""
    from sglang.srt.entrypoints.openai import protocol
    from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion

    extra = {"deterministic": True, "seed": 7, "custom_params": {"deterministic": True}}
    chat = protocol.ChatCompletionRequest(messages=[{"role": "user", "content": "x"}], **extra)
    completion = protocol.CompletionRequest(prompt="x", **extra)
    responses = protocol.ResponsesRequest(input="x", **extra)
    unset = protocol.CompletionRequest(prompt="x")
    build = OpenAIServingCompletion._build_sampling_params
    found = {
        "chat": chat.to_sampling_params(stop=[], model_generation_config={}),
        "completion": build(None, completion),
        "responses": responses.to_sampling_params(),
        "unset": build(None, unset),
    }
    told = ("deterministic", "sampling_seed", "custom_params")
    return {name: {k: p[k] for k in told if k in p} for name, p in found.items()}


def frontend_language() -> dict[str, Any]:
    """The sampling parameters of every request that a program sends."""
    import sglang as sgl

    @sgl.function
    def program(s):
        s += "x" + sgl.gen("a", deterministic=True, sampling_seed=7)
        s += sgl.gen_int("b", deterministic=True)
        s += sgl.gen_string("c", deterministic=True)
        s += sgl.gen("d", choices=["x", "y"], deterministic=True)
        method = sgl.unconditional_likelihood_normalized
        s += sgl.select("e", ["x", "y"], choices_method=method, deterministic=True)

    return {
        "asked": _requests(program),
        "by default": _requests(_plain_program(), deterministic=True),
        "refused": _unsupporting(program),
    }


def frontend_unchanged() -> list[dict[str, Any]]:
    """The same for a program that does not ask for determinism."""
    return _requests(_plain_program())


def server_flags() -> dict[str, Any]:
    """What SGLang's two launchers do with our flags."""
    from sglang.cli import serve

    from llm42_sglang.cli import main

    found = {"module": _leaves(_launch_server, ["--llm42-page", "24"])}
    handed_over: list[str] = []
    original, main.main = main.main, lambda argv: sys.exit(handed_over.extend(argv))
    try:
        argv = ["a/model", "--model-type", "llm", "--llm42-page", "16"]
        found["command"] = _leaves(lambda argv: serve.serve(None, argv), argv)
        found["handed over"] = handed_over
    finally:
        main.main = original
    with _without_llm42():
        found["without the plugin"] = _leaves(_launch_server, ["--llm42-default"])
    return found


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


def _unsupporting(program) -> str:
    from sglang.lang.backend.base_backend import BaseBackend

    try:
        program.run(backend=BaseBackend(), use_thread=False)
    except ValueError as error:
        return str(error)
    return "accepted"


def _launch_server(argv: list[str]) -> None:
    before, sys.argv = sys.argv, ["launch_server", *argv]
    try:
        runpy.run_module("sglang.launch_server", run_name="__main__")
    finally:
        sys.argv = before


def _leaves(function, argv: list[str]) -> list[Any]:
    """The exit status and the last line on stderr, or the status alone if it is a message."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            function(argv)
        except SystemExit as error:
            return [error.code, *said.getvalue().strip().splitlines()[-1:]]
    return ["went on"]


class _NoLlm42(MetaPathFinder):
    """Has Python say of our package what it says of one that is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name == "llm42_sglang":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextlib.contextmanager
def _without_llm42():
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if "llm42_sglang" in name}
    sys.meta_path.insert(0, _NoLlm42())
    try:
        yield
    finally:
        sys.meta_path.pop(0)
        sys.modules.update(hidden)


PROBES = (
    sampling_params,
    openai_protocol,
    frontend_unchanged,
    frontend_language,
    server_flags,
)


def main(folder: str) -> None:
    sys.meta_path.insert(0, Overlay(Path(folder)))
    found: dict[str, Any] = {}
    for probe in PROBES:
        try:
            found[probe.__name__] = probe()
        except Exception as error:
            found[probe.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
