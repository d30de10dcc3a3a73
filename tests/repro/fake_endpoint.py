"""A stand-in for what a check or a probe asks: python fake_endpoint.py PORT [--option ...].

Kinds: `ours` (native and OpenAI API, fingerprint, receipts), `stock` (the same without the last
two), `openai` (chat only, refuses fields that it does not know). Answers are a function of prompt,
sampling and --weights. Standard library, and the project's own hashes.
"""

import argparse
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

from llm42_sglang.core.receipts import fingerprint, output_digest

# A request that has company by then is in load; slices, lest a machine that stalls ends the wait.
WAIT_S, SLICES = 0.01, 15
FLIPS = ("never", "load", "ordinary", "stream", "always")  # ordinary: in load, those requests only
FLIP_AT = 5  # the token
CHAT = "/v1/chat/completions"
PATHS = ("/generate", "/v1/completions", CHAT)
WORDS = ("the ", "sea ", "<b>is</b> ", "wide\n", "and ", "no ", "one ", "knows ")

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--kind", choices=["ours", "stock", "openai"], default="ours")
parser.add_argument("--flips", choices=FLIPS, default="never")
parser.add_argument("--weights", default="1", help="other weights, other answers")
parser.add_argument("--torch", default="2.14.1", help="another fingerprint, the same answers")
parser.add_argument("--unverified", action="store_true")
parser.add_argument("--wobble", action="store_true", help="logprobs differ in load, tokens do not")
parser.add_argument("--sick", action="store_true", help="503 for the fingerprint")
parser.add_argument("--lies", action="store_true", help="facts that the fingerprint is not of")
parser.add_argument("--incremental", action="store_true", help="streams of increments")


class FakeEndpoint(ThreadingHTTPServer):
    """A server in this process: FakeEndpoint("--kind", "stock"), then `url`."""

    request_queue_size = 64
    daemon_threads = True

    def __init__(self, *options: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.options = parser.parse_args([str(port), *options])
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.arrival = threading.Condition()
        self.in_flight = 0
        self.requests: list[tuple[str, dict]] = []
        self.answered = 0

    def __enter__(self) -> "FakeEndpoint":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def facts(self) -> dict[str, Any]:
        told = {"weights": self.options.weights * 64, "torch": self.options.torch}
        return told | {"page": 32, "flags": {"quantization": "None"}}

    def answer(self, path: str, body: dict) -> dict[str, Any]:
        """Everything about one answer, whatever the API."""
        crowded = self.arrive(path, body)
        params = body.get("sampling_params", body)
        question = question_of(body)
        count = params.get("max_new_tokens") or params.get("max_tokens")
        base = sum(map(ord, question)) + 7 * int(self.options.weights)
        ids = [(base + 13 * i * i) % 1000 for i in range(count)]
        flips = {"stream": body.get("stream"), "always": self.answered % 3}
        if flips.get(self.options.flips, crowded and not self.options.wobble):
            ids[FLIP_AT] += 1
        step = 0.001 if self.options.wobble and crowded else 0
        with self.arrival:
            self.in_flight -= 1
            self.answered += 1
        return {
            "ids": ids,
            "tokens": [WORDS[token % len(WORDS)] for token in ids],
            "logprobs": [-(token % 97) / 32 - step for token in ids],
            "receipt": self.receipt(question, ids) if self.vouches(body) else None,
        }

    def arrive(self, path: str, body: dict) -> bool:
        """Whether the request is in load; False at once where that makes no difference."""
        with self.arrival:
            self.requests.append((path, body))
            arrived = len(self.requests)
            self.in_flight += 1
            self.arrival.notify_all()
            concerned = {"load": True, "ordinary": not deterministic(body)}
            if not concerned.get(self.options.flips, self.options.wobble):
                return False
            # Arrivals, for company may have come and gone by the time this thread wakes up.
            return self.in_flight > 1 or any(
                self.arrival.wait_for(lambda: len(self.requests) > arrived, timeout=WAIT_S)
                for _ in range(SLICES)
            )

    def vouches(self, body: dict) -> bool:
        return self.options.kind == "ours" and deterministic(body)

    def receipt(self, question: str, ids: list[int]) -> dict:
        return {
            "verified": not self.options.unverified,
            "fingerprint": fingerprint(self.facts),
            "output_digest": output_digest(map(ord, question), ids),
            "verify_passes": 2,
            "rollbacks": self.answered % 3,  # differs from run to run, as real ones do
            "tokens_rolled_back": 3 * (self.answered % 3),
        }


class Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint

    def do_GET(self) -> None:
        options, facts = self.server.options, self.server.facts
        found: dict[str, dict] = {"/health": {}, "/v1/models": {"data": [{"id": "fake"}]}}
        if options.kind != "openai":
            found["/model_info"] = {"model_path": "/models/fake"}
        if options.kind == "ours":
            hashed = fingerprint(facts | {"page": 16} if options.lies else facts)
            found["/llm42/fingerprint"] = {"fingerprint": hashed, "facts": facts}
        if options.sick and self.path == "/llm42/fingerprint":
            self.reply(503, {"error": {"message": "llm42: the hooks are not live"}})
        else:
            self.reply(200 if self.path in found else 404, found.get(self.path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        path = self.path.partition("?")[0]
        kind = self.server.options.kind
        ids_wanted = body.get("return_token_ids")
        if path not in (("/flush_cache", *PATHS) if kind != "openai" else (CHAT,)):
            self.reply(404, {"error": "no such path"})
        elif path == "/flush_cache":
            self.reply(200, {})
        elif kind == "openai" and (ids_wanted or "deterministic" in body):
            self.reply(400, {"error": {"message": "Unrecognized request argument"}})
        elif path == CHAT and body.get("stream") and ids_wanted:
            self.reply(400, {"error": {"message": "return_token_ids and streaming"}})
        else:
            self.answer(path, body)

    def answer(self, path: str, body: dict) -> None:
        answer = self.server.answer(path, body)
        event = native_event if path == "/generate" else openai_event
        cuts = [*range(0, len(answer["ids"]), 4), len(answer["ids"])]
        spans = list(pairwise(cuts))
        if path == "/generate" and not self.server.options.incremental:
            spans = [(0, end) for _, end in spans]
        if not body.get("stream"):
            self.reply(200, event(answer, path, body, 0, len(answer["ids"])))
            return
        chunks = [json.dumps(event(answer, path, body, *span)) for span in spans]
        self.reply(200, "".join(f"data: {chunk}\n\n" for chunk in (*chunks, "[DONE]")))

    def reply(self, status: int, content: dict | str) -> None:
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def question_of(body: dict) -> str:
    """The text, the last message, or token ids as characters."""
    if "messages" in body:
        return body["messages"][-1]["content"]
    asked = body.get("text") or body.get("input_ids") or body["prompt"]
    return asked if isinstance(asked, str) else "".join(map(chr, asked))


def deterministic(body: dict) -> bool:
    """Whether the request asks for it."""
    custom = body.get("sampling_params", {}).get("custom_params", {})
    return bool(body.get("deterministic") or custom.get("deterministic"))


def native_event(answer: dict, path: str, body: dict, start: int, end: int) -> dict:
    """Tokens [start, end) of an answer."""
    top = body.get("top_logprobs_num", 0)
    done = end == len(answer["ids"])
    scored = zip(answer["logprobs"], answer["ids"], answer["tokens"], strict=True)
    meta = {
        "completion_tokens": end,
        "finish_reason": {"type": "length", "length": end} if done else None,
        "output_token_logprobs": [list(entry) for entry in scored][start:end],
        "output_top_logprobs": [[[v, 0, None]] * top for v in answer["logprobs"][start:end]],
        "cached_tokens": 0,
    }
    if done and answer["receipt"]:
        meta["llm42"] = answer["receipt"]
    text = "".join(answer["tokens"][start:end])
    return {"text": text, "output_ids": answer["ids"][start:end], "meta_info": meta}


def openai_event(answer: dict, path: str, body: dict, start: int, end: int) -> dict:
    """Tokens [start, end) of an answer, a chunk or the whole."""
    chat, field = path == CHAT, "delta" if body.get("stream") else "message"
    done = end == len(answer["ids"])
    text, tokens = "".join(answer["tokens"][start:end]), answer["tokens"][start:end]
    values = answer["logprobs"][start:end]
    said = {field: {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = {"index": 0, "finish_reason": "length" if done else None, **said}
    if body.get("logprobs") not in (None, False):
        entries = [{"token": t, "logprob": v} for t, v in zip(tokens, values, strict=True)]
        flat = {"tokens": tokens, "token_logprobs": values}
        choice["logprobs"] = {"content": entries} if chat else flat
    if body.get("return_token_ids"):
        choice["response_token_ids" if chat else "token_ids"] = answer["ids"][start:end]
    kind = "chat.completion" if chat else "text_completion"
    stamp = {"llm42": answer["receipt"]} if done and answer["receipt"] else {}
    return {"object": kind, "choices": [choice], **stamp}


if __name__ == "__main__":
    FakeEndpoint(*sys.argv[2:], port=int(sys.argv[1])).serve_forever()
