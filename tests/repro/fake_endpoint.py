"""A fake server for checks and probes: python fake_endpoint.py PORT [--option ...].

`ours` has the native and the OpenAI API, a fingerprint, and receipts. `stock` has the two APIs.
`openai` has chats only, and refuses fields that it does not know. Answers are a function of prompt,
sampling and --weights. It needs the standard library and the project's own hashes.

Where it has to name what was in force it knows a few sampling parameters.
"""

import argparse
import json
import struct
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llm42_sglang.core.claim import refutation
from llm42_sglang.core.receipts import fingerprint, output_digest, receipt_digest, request_digest
from llm42_sglang.engine.signing import Signer

# A request is in load if another one arrives within this time. The wait has slices, so that a
# machine that stalls does not end it.
WAIT_S, SLICES = 0.01, 15
FLIPS = ("never", "load", "ordinary", "stream", "always")  # ordinary: only those requests, in load
FLIP_AT = 5  # index of the token that flips
EVENT = 4  # tokens of an event
MOST_TOKENS = 10_000  # of all choices of an answer
CHAT = "/v1/chat/completions"
PATHS = ("/flush_cache", "/generate", "/v1/completions", CHAT)
WORDS = ("the ", "sea ", "<b>is</b> ", "wide\n", "and ", "no ", "one ", "knows ")

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--kind", choices=["ours", "stock", "openai"], default="ours")
parser.add_argument("--flips", choices=FLIPS, default="never")
parser.add_argument("--weights", default="1", help="other weights, other answers")
parser.add_argument("--torch", default="2.14.1", help="another fingerprint, the same answers")
parser.add_argument("--device", help="another machine, another fingerprint")
parser.add_argument("--unverified", action="store_true")
parser.add_argument("--wobble", action="store_true", help="logprobs differ in load, tokens do not")
parser.add_argument("--sick", action="store_true", help="503 for the fingerprint")
parser.add_argument("--lies", action="store_true", help="facts that do not give the fingerprint")
parser.add_argument("--incremental", action="store_true", help="streams of increments")
parser.add_argument("--receipts", choices=["1", "2"], default="2", help="their version")
parser.add_argument("--signs", type=int, help="sign receipts with the key of this number")
parser.add_argument("--echo", action="store_true", help="answer with the question")

DEFAULTS: dict[str, Any] = {
    **{"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "min_new_tokens": 0},
    **{"frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0},
    **{"ignore_eos": False, "no_stop_trim": False, "require_reasoning": False, "logit_bias": {}},
    **{"stop": [], "stop_token_ids": [], "stop_regex": []},
}

Scored = list[tuple[float, int, str]]  # logprob, id and text of each token


class FakeEndpoint(ThreadingHTTPServer):
    """A server in this process: FakeEndpoint("--kind", "stock"), then `url`."""

    request_queue_size = 64
    daemon_threads = True

    def __init__(self, *options: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.options = parser.parse_args([str(port), *options])
        self.url = f"http://127.0.0.1:{self.server_port}"
        number = self.options.signs
        key = None if number is None else Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))
        self.signer = Signer(key) if key else None
        facts = {"weights": self.options.weights * 64, "torch": self.options.torch}
        self.facts = facts | {"page": 32, "flags": {"quantization": "None"}}
        self.facts |= {"device": self.options.device} if self.options.device else {}
        self.arrival = threading.Condition()
        self.in_flight = self.answered = 0
        self.requests: list[tuple[str, dict]] = []
        self.faults: dict[str, bytes] = {}  # by question: the raw response

    def __enter__(self) -> "FakeEndpoint":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that have gone, for which the base class would print a traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, path: str, body: dict) -> tuple[Scored, dict]:
        """The tokens, and a dictionary with the receipt if there is one."""
        (only,) = self.answers(path, body)
        return only

    def answers(self, path: str, body: dict) -> list[tuple[Scored, dict]]:
        """An answer for each choice. The last one flips."""
        crowded = self.arrive(path, body)
        params = body.get("sampling_params", body)
        question, count, first = question_of(body), params.get("n") or 1, seed_in(params)
        flips = {"stream": body.get("stream"), "always": self.answered % 3}
        flip = flips.get(self.options.flips, crowded and not self.options.wobble)
        with self.arrival:
            self.in_flight -= 1
            self.answered += 1
        vouches = self.options.kind == "ours" and deterministic(body)
        choices = []
        for number in range(count):
            base = sum(map(ord, question)) + 7 * int(self.options.weights)
            base += 5 * (first - 42 + number)
            size = params.get("max_new_tokens") or params.get("max_tokens")
            assert count * size < MOST_TOKENS, "more than a context"  # the connection breaks
            ids = [(base + 13 * i * i) % 1000 for i in range(size)]
            ids[FLIP_AT] += bool(flip) and number == count - 1
            step = 0.001 if self.options.wobble and crowded else 0
            scored = [(-(i % 97) / 32 - step, i, WORDS[i % len(WORDS)]) for i in ids]
            if self.options.echo:
                scored[0] = (*scored[0][:2], question + "\ud83d")
            claim = claim_of(body) if vouches else None
            if claim and (wrong := refutation(claim, ids)):
                found = {"fingerprint": fingerprint(self.facts)}
                found["refuted"] = wrong._asdict() | {"margin": 0.5}
                choices.append((scored[: wrong.token + 1], {"llm42": found}))
            else:
                stamp = {"llm42": self.receipt(body, scored)} if vouches else {}
                choices.append((scored, stamp))
        return choices

    def arrive(self, path: str, body: dict) -> bool:
        """Whether the request is in load. False, without waiting, if that makes no difference."""
        with self.arrival:
            self.requests.append((path, body))
            arrived = len(self.requests)
            self.in_flight += 1
            self.arrival.notify_all()
            concerned = {"load": True, "ordinary": not deterministic(body)}
            if not concerned.get(self.options.flips, self.options.wobble):
                return False
            # Arrivals count: another request may have come and gone before this thread wakes up.
            return self.in_flight > 1 or any(
                self.arrival.wait_for(lambda: len(self.requests) > arrived, timeout=WAIT_S)
                for _ in range(SLICES)
            )

    def receipt(self, body: dict, scored: Scored) -> dict:
        prompt, ids = [*map(ord, question_of(body))], [token for _, token, _ in scored]
        stamp = {"verified": not self.options.unverified, "fingerprint": fingerprint(self.facts)}
        counters = {
            "canonical_steps": 4,
            "verify_passes": 2,
            "rollbacks": self.answered % 3,  # differs from run to run, as real ones do
            "tokens_rolled_back": 3 * (self.answered % 3),
        }
        if self.options.receipts == "1":
            return stamp | {"output_digest": digest_1(prompt, ids)} | counters
        sampling, seed = in_force(body, len(ids))
        logprobs = [value for value, *_ in scored] if sampling["logprobs"] else None
        receipt = stamp | {
            "version": 2,
            "segments": [{"fingerprint": stamp["fingerprint"], "tokens": len(ids)}],
            "request_digest": request_digest(prompt, sampling, seed),
            "output_digest": output_digest(ids, "length", None, logprobs),
            "seed": seed,
            "sampling": sampling,
            "nonce": nonce_of(body),
            **counters,
        }
        receipt["receipt_digest"] = receipt_digest(receipt)
        return self.signer.signed(receipt) if self.signer else receipt


class Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint

    def do_GET(self) -> None:
        options, facts = self.server.options, self.server.facts
        bodies: dict[str, dict] = {"/health": {}, "/v1/models": {"data": [{"id": "fake"}]}}
        if options.kind != "openai":
            bodies["/model_info"] = {"model_path": "/models/fake"}
        if options.kind == "ours":
            hashed = fingerprint(facts | {"page": 16} if options.lies else facts)
            bodies["/llm42/fingerprint"] = {"fingerprint": hashed, "facts": facts}
            if self.server.signer:
                bodies["/llm42/fingerprint"] |= self.server.signer.public
        if options.sick and self.path == "/llm42/fingerprint":
            self.reply(503, {"error": {"message": "llm42: the hooks are not live"}})
        else:
            self.reply(200 if self.path in bodies else 404, bodies.get(self.path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        path, paths, refused = self.path.partition("?")[0], PATHS, set()
        if self.server.options.kind == "openai":
            paths, refused = (CHAT,), {"return_token_ids", "deterministic"}
        elif path == CHAT and body.get("stream"):
            refused = {"return_token_ids"}
        if path in PATHS[1:] and (fault := self.server.faults.get(question_of(body))) is not None:
            self.wfile.write(fault)
        elif path not in paths:
            self.reply(404, {"error": "no such path"})
        elif refused & body.keys():
            self.reply(400, {"error": {"message": "Unrecognized request argument"}})
        else:
            self.reply(200, {} if path == "/flush_cache" else self.answer(path, body))

    def answer(self, path: str, body: dict) -> dict | list | str:
        answers, native = self.server.answers(path, body), path == "/generate"
        event = native_event if native else openai_event
        if not body.get("stream"):
            return whole_of(native, [event(body, each, len(each), end) for each, end in answers])
        grows = native and not self.server.options.incremental
        chunks = []
        for start in range(0, len(answers[0][0]), EVENT):
            for number, (scored, end) in enumerate(answers):
                stop = min(start + EVENT, len(scored))
                part = scored[0 if grows else start : stop]
                last = event(body, part, stop, end if stop == len(scored) else None)
                if len(answers) > 1:
                    (last if native else last["choices"][0])["index"] = number
                chunks.append(json.dumps(last, ensure_ascii=False))
        return "".join(f"data: {chunk}\n\n" for chunk in (*chunks, "[DONE]"))

    def reply(self, status: int, content: dict | list | str) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        data = text.encode(errors="backslashreplace")  # half a surrogate pair, as JSON writes it
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def question_of(body: dict) -> str:
    """The question: the text, the last message, or token ids as characters."""
    if "messages" in body:
        return body["messages"][-1]["content"]
    prompt = next(body[name] for name in ("text", "input_ids", "prompt") if name in body)
    return prompt if isinstance(prompt, str) else "".join(map(chr, prompt))


def deterministic(body: dict) -> bool:
    """Whether the request asks for determinism."""
    custom = body.get("sampling_params", body).get("custom_params", {})
    return bool(body.get("deterministic") or custom.get("deterministic"))


def seed_in(params: dict) -> int:
    """The seed of the first sample."""
    seed = params.get("sampling_seed", params.get("seed"))
    return seed if isinstance(seed, int) else 42


def claim_of(body: dict) -> list[int] | None:
    """The claimed token ids, None for no claim."""
    custom = body.get("sampling_params", body).get("custom_params") or {}
    return custom.get("claim")


def in_force(body: dict, tokens: int) -> tuple[dict, int | None]:
    """What a receipt calls `sampling`, and the seed."""
    given = body.get("sampling_params", body)
    said = {name: type(other)(given.get(name, other)) for name, other in DEFAULTS.items()}
    said |= {"max_new_tokens": tokens, "grammar": None, "custom_params": {}}
    said["logprobs"] = bool(body.get("return_logprob")) or body.get("logprobs") not in (None, False)
    seed = given.get("sampling_seed", given.get("seed", 42))
    if said["temperature"] == 0:
        return said | {"top_k": 1}, None
    return said, seed if isinstance(seed, int) else 123


def nonce_of(body: dict) -> str | None:
    """The nonce, wherever it stands."""
    given = body.get("sampling_params", body)
    return given.get("nonce", given.get("custom_params", {}).get("nonce"))


def digest_1(prompt: list[int], ids: list[int]) -> str:
    """The digest of version 1."""
    content = struct.pack(f"<q{len(prompt)}qq{len(ids)}q", len(prompt), *prompt, len(ids), *ids)
    return sha256(content).hexdigest()[:32]


def reason_of(end: dict) -> str:
    """Why an answer has ended: its length, or a claim that is wrong."""
    return "abort" if "refuted" in end.get("llm42", {}) else "length"


def native_event(body: dict, scored: Scored, total: int, end: dict | None) -> dict:
    """An event of an answer, with `total` tokens so far. The last has the receipt in `end`."""
    meta = {
        "completion_tokens": total,
        "finish_reason": None if end is None else {"type": reason_of(end), "length": total},
        "output_token_logprobs": scored,
        "output_top_logprobs": [
            [[v, 0, None]] * body.get("top_logprobs_num", 0) for v, *_ in scored
        ],
        "cached_tokens": 0,
    }
    ids, texts = [token for _, token, _ in scored], [text for *_, text in scored]
    return {"text": "".join(texts), "output_ids": ids, "meta_info": meta | (end or {})}


def openai_event(body: dict, scored: Scored, total: int, end: dict | None) -> dict:
    """The same in OpenAI's format: a chunk of a stream, or the whole answer."""
    chat, message = "messages" in body, "delta" if body.get("stream") else "message"
    tokens = [text for *_, text in scored]
    reason = None if end is None else reason_of(end)
    if reason == "length" and called(body):
        reason = "tool_calls"
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    said = {"content": "".join(tokens)}
    if called(body):
        said = {"content": None, "tool_calls": [call(body, scored, total, end)]}
    choice |= {message: said} if chat else {"text": "".join(tokens)}
    if body.get("logprobs") not in (None, False):
        entries = [{"token": text, "logprob": value} for value, _, text in scored]
        flat = {"tokens": tokens, "token_logprobs": [value for value, *_ in scored]}
        choice["logprobs"] = {"content": entries} if chat else flat
    if body.get("return_token_ids"):
        choice["response_token_ids" if chat else "token_ids"] = [token for _, token, _ in scored]
    kind = "chat.completion" if chat else "text_completion"
    return {"object": kind, "choices": [choice], **(end or {})}


def whole_of(native: bool, parts: list[dict]) -> dict | list:
    """The response with these choices."""
    if len(parts) == 1 or native:
        return parts[0] if len(parts) == 1 else parts
    choices = [part["choices"][0] | {"index": i} for i, part in enumerate(parts)]
    receipts = [part["llm42"] for part in parts if "llm42" in part]
    return parts[0] | {"choices": choices} | ({"llm42": receipts} if receipts else {})


def called(body: dict) -> str | None:
    """The name of the tool that is called."""
    tools = body.get("tools") if body.get("tool_choice") != "none" else None
    return tools[0]["function"]["name"] if tools else None


def call(body: dict, scored: Scored, total: int, end: dict | None) -> dict:
    """A tool call, of the tokens as an argument. In a stream it is a piece, spaced otherwise."""
    ids, word = [token for _, token, _ in scored], json.dumps(scored[0][2])
    streamed, first = body.get("stream"), total == len(scored)
    text = f'{{"town": "Oslo", "word": {word}, "ids": {ids}}}'
    if streamed:
        start = f'{{"town":"Oslo","word":{word},"ids":[' if first else ","
        text = start + ",".join(map(str, ids)) + ("" if end is None else "]}")
    name = called(body) if first or not streamed else None
    return {"index": 0, "id": uuid4().hex, "function": {"name": name, "arguments": text}}


if __name__ == "__main__":
    FakeEndpoint(*sys.argv[2:], port=int(sys.argv[1])).serve_forever()
