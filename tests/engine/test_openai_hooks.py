"""SGLang's own OpenAI endpoints and the real `openai` client around a pretended engine."""

import pkgutil
from types import SimpleNamespace

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from sglang.srt.entrypoints import http_server
from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion
from sglang.srt.entrypoints.openai.serving_responses import OpenAIServingResponses
from sglang.srt.managers.tokenizer_manager import TokenizerManager
from sglang.srt.parser.template_manager import TemplateManager
from sglang.srt.runtime_context import get_context
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from llm42_sglang.core.config import Config
from llm42_sglang.engine import plugin
from llm42_sglang.engine.gatekeeper import Gatekeeper
from llm42_sglang.engine.openai_api import OpenAIHooks

FINGERPRINT = "f" * 32
RECEIPT = {"verified": True, "fingerprint": FINGERPRINT, "output_digest": "d", "rollbacks": 2}
TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"
STEPS = ("Hel", "Hello", "Hello there")  # text after one, two and three tokens
ON = {"custom_params": {"deterministic": True}}
OFF = {"custom_params": {"deterministic": False}}
ENDPOINTS = ("chat", "completions", "responses")


class PretendedEngine(TokenizerManager):
    """What the handlers read of a tokenizer manager, and answers of three tokens."""

    def __init__(self):
        self.server_args = SimpleNamespace()
        words = Tokenizer(models.WordLevel({"[UNK]": 0, "Hi": 1}, unk_token="[UNK]"))
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=TEMPLATE)
        self.request_logger = SimpleNamespace(log_requests=False)
        self.served_model_name = self.model_path = "default"
        self.model_config = SimpleNamespace(
            is_multimodal=False,
            hf_config=SimpleNamespace(model_type="llama", architectures=["LlamaForCausalLM"]),
            get_default_sampling_params=dict,
        )
        self.default = False  # deterministic without being asked
        self.seen = []  # requests, as the handlers made them

    def config_value(self, name):
        return None

    def create_abort_task(self, obj):
        return None


async def pretended_answers(engine, obj, request=None):
    """Stands for TokenizerManager.generate_request."""
    obj.normalize_batch_and_arguments()
    engine.seen.append(obj)
    many = not obj.is_single
    params = obj.sampling_params[0] if many else obj.sampling_params
    asked = (params.get("custom_params") or {}).get("deterministic", engine.default)
    for tokens in range(1, 4) if obj.stream else [3]:
        results = [_result(index, tokens, asked) for index in range(obj.batch_size)]
        if obj.stream or not many:
            for result in results:
                yield result
        else:
            yield results


def _result(index: int, tokens: int, deterministic: bool) -> dict:
    ended = tokens == len(STEPS)
    meta = {
        "id": "one",
        "prompt_tokens": 1,
        "completion_tokens": tokens,
        "finish_reason": {"type": "length", "length": tokens} if ended else None,
        "weight_version": "default",
    }
    if ended and deterministic:
        meta["llm42"] = RECEIPT | {"index": index}
    return {"index": index, "text": STEPS[tokens - 1], "output_ids": [1] * tokens} | {
        "meta_info": meta
    }


@pytest.fixture
def gate() -> Gatekeeper:
    gate = Gatekeeper(Config())
    gate.problem, gate.proof = None, {"fingerprint": FINGERPRINT}
    return gate


@pytest.fixture
def engine(gate, monkeypatch):
    """The endpoints with the hooks that the plugin registers, for one test."""
    monkeypatch.setattr(TokenizerManager, "generate_request", pretended_answers)
    monkeypatch.setattr(plugin, "hook", lambda *hook: _apply(monkeypatch, *hook))
    plugin._register_openai(OpenAIHooks(gate))
    engine, templates = PretendedEngine(), TemplateManager()
    state = http_server.app.state
    with get_context().override_server_args():
        for name, handler in {
            "chat": OpenAIServingChat,
            "completion": OpenAIServingCompletion,
            "responses": OpenAIServingResponses,
        }.items():
            serving = handler(engine, templates)
            monkeypatch.setattr(state, f"openai_serving_{name}", serving, raising=False)
        yield engine


def _apply(monkeypatch, target: str, function, kind) -> None:
    """What SGLang's registry does for AROUND, undone after the test."""
    owner_path, name = target.rsplit(".", 1)
    owner = pkgutil.resolve_name(owner_path)
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kw: function(original, *args, **kw))


class InProcess(httpx.BaseTransport):
    """Carries requests into SGLang's application."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # Not entered as a context: the server's start-up must not run.
        answer = TestClient(http_server.app).post(
            request.url.path, content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(
            answer.status_code, headers=dict(answer.headers), content=answer.content
        )


@pytest.fixture
def client(engine) -> openai.OpenAI:
    http = httpx.Client(transport=InProcess())
    return openai.OpenAI(base_url="http://in/v1", api_key="-", http_client=http, max_retries=0)


def ask(client: openai.OpenAI, endpoint: str, extra_body=None, **options):
    """A greedy request; `options` may be any of the endpoint's."""
    options = {"model": "default", "temperature": 0, "extra_body": extra_body} | options
    if endpoint == "chat":
        message = {"role": "user", "content": "Hi"}
        return client.chat.completions.create(messages=[message], **options)
    if endpoint == "completions":
        return client.completions.create(**{"prompt": "Hi"} | options)
    return client.responses.create(input="Hi", **options)


def last_stamped(stream):
    """Everything in a stream that may carry a stamp."""
    parts = [getattr(part, "response", part) for part in stream]
    return [part for part in parts if hasattr(part, "choices") or hasattr(part, "output")]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_response_carries_fingerprint_and_receipt(client, endpoint):
    answer = ask(client, endpoint, ON)
    assert answer.system_fingerprint == FINGERPRINT
    assert answer.llm42 == RECEIPT | {"index": 0}
    usage = answer.usage.to_dict()
    assert usage.get("completion_tokens", usage.get("output_tokens")) == 3


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_stream_carries_them_once_it_ends(client, endpoint):
    parts = last_stamped(ask(client, endpoint, ON, stream=True))
    assert {part.system_fingerprint for part in parts} == {FINGERPRINT}
    receipts = [part.llm42 for part in parts if hasattr(part, "llm42")]
    assert receipts == [RECEIPT | {"index": 0}]
    assert not hasattr(parts[0], "llm42")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_ordinary_answers_stay_as_they_are(client, endpoint, stream):
    answer = ask(client, endpoint, OFF, temperature=0.7, stream=stream)
    for part in last_stamped(answer) if stream else [answer]:
        assert not getattr(part, "system_fingerprint", None)
        assert not hasattr(part, "llm42")


@pytest.mark.parametrize("extra_body", [ON, {"deterministic": True}])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_request_fields_reach_the_sampling_parameters(client, engine, endpoint, extra_body):
    ask(client, endpoint, extra_body | {"seed": 7})
    (request,) = engine.seen
    assert request.sampling_params["custom_params"]["deterministic"] is True
    assert request.sampling_params["sampling_seed"] == 7


def test_chat_and_responses_have_the_same_prompt(client, engine):
    """So the same question has the same receipt at both."""
    for endpoint in ("chat", "responses"):
        ask(client, endpoint, ON)
    first, second = engine.seen
    assert (first.text, first.input_ids) == (second.text, second.input_ids)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("extra_body", "named"),
    [
        (ON | {"extra_key": "llm42:x"}, "extra_key"),
        ({"deterministic": "yes"}, "deterministic"),
        ({"custom_params": {"deterministic": 1}}, "deterministic"),
        (ON | {"seed": "x"}, "seed"),
        ({"custom_params": []}, "custom_params"),
    ],
)
def test_refusals_name_the_option(client, engine, endpoint, extra_body, named, stream):
    with pytest.raises(openai.BadRequestError, match=named) as error:
        ask(client, endpoint, extra_body, stream=stream)
    assert named in error.value.body["message"]
    assert engine.seen == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_no_deterministic_service_is_503(client, gate, endpoint, stream):
    gate.problem = "the hooks are not live"
    with pytest.raises(openai.APIStatusError, match="not live") as error:
        ask(client, endpoint, ON, stream=stream)
    assert error.value.status_code == 503


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_server_default_holds_without_a_word(client, engine, gate, endpoint):
    gate.config, engine.default = Config(default=True), True
    assert ask(client, endpoint).llm42 == RECEIPT | {"index": 0}


def test_several_choices_have_a_receipt_each(client):
    answer = ask(client, "completions", ON, prompt=["Hi", "Hi"])
    assert [receipt["index"] for receipt in answer.llm42] == [0, 1]
    chunks = last_stamped(ask(client, "completions", ON, prompt=["Hi", "Hi"], stream=True))
    receipts = [
        (chunk.choices[0].index, chunk.llm42["index"])
        for chunk in chunks
        if hasattr(chunk, "llm42")
    ]
    assert receipts == [(0, 0), (1, 1)]


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_usage_in_a_stream(client, endpoint):
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(ask(client, endpoint, ON, stream=True, stream_options=options))
    assert chunks[-1].usage.completion_tokens == 3
    assert chunks[-1].system_fingerprint == FINGERPRINT
