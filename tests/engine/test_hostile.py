"""Nobody can take the service down, or hold it: hostile requests beside a deterministic stream."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.engine import client, hostile
from tests.fire.attacks import WELL, Attack, encoded
from tests.fire.fuzz import Answered, Fuzzer

pytestmark = pytest.mark.server("tiny")
LONG = 6  # a prompt of 50 tokens
SMALL = "/v1/models"  # an endpoint that needs nothing but the event loop


class Others:
    """What other clients wait for, while this runs: seconds of the slowest small request."""

    def __init__(self, url: str):
        self.slowest_s = 0.0
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=client.TIMEOUT_S) as http:
            while not self._over.wait(0.02):
                began = time.monotonic()
                http.get(self._url + SMALL).raise_for_status()
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._over.set()
        self._thread.join()


def wrong(answer: tuple[int, str]) -> bool:
    """Neither served nor refused."""
    status, text = answer
    return status >= 500 and not (status == 503 and "not available" in text)


def send(http: httpx.Client, url: str, request: hostile.Hostile) -> tuple[int, str]:
    """Status and text; 599 where the server breaks off."""
    try:
        headers = {"content-type": "application/json"}
        body = None if request.body is None else json.dumps(request.body)
        response = http.request(request.method, url + request.path, content=body, headers=headers)
    except httpx.TransportError as error:
        return 599, repr(error)
    return response.status_code, response.text


def test_there_are_enough_and_all_kinds():
    requests = hostile.requests()
    assert len(requests) >= 200
    assert len({request.path for request in requests}) > 40
    assert len({json.dumps(request) for request in requests}) == len(requests)


def test_hostile_requests_beside_a_stream(url, reference):
    body = client.body(client.prompts()[LONG], max_new_tokens=1200)
    expected = client.ask(url, body)
    assert expected.ids[: client.NEW_TOKENS] == reference[LONG].ids
    client.flush(url)
    with (
        httpx.Client(trust_env=False, timeout=60) as http,
        Others(url) as others,
        ThreadPoolExecutor(1) as pool,
    ):
        streams = [pool.submit(client.ask, url, body | {"stream": True})]
        answers = []
        for request in hostile.requests():
            answers.append(send(http, url, request))
            if streams[-1].done():  # one is always under way
                streams.append(pool.submit(client.ask, url, body | {"stream": True}))
        streamed = [stream.result() for stream in streams]
    failed = [
        (request, answer)
        for request, answer in zip(hostile.requests(), answers, strict=True)
        if wrong(answer)
    ]
    assert failed == []
    assert client.ids_of(streamed) == [expected.ids] * len(streams)
    assert all(answer.meta["llm42"]["verified"] for answer in streamed)
    client.flush(url)
    counts = Counter(status for status, _ in answers)
    print(f"{len(answers)} requests, {counts}; others waited {others.slowest_s:.2f} s at most")


def test_attacks_are_refused_by_name_or_answered_right(url):
    """A short sample of `scripts/fuzz`; then answers that would be noticed."""
    fuzzer = Fuzzer(url)
    fuzzer.fire(150)
    assert fuzzer.counts["requests"] >= 150 and len(fuzzer.by_attack) > 10
    assert fuzzer.counts["deterministic answers, asked for again alone"] > 5
    ours = Attack(
        "a field of ours", "/generate", b"{}", names=("nonce", "sampling_params"), ours=True
    )
    for answer in (
        Answered(500, "", 0),
        Answered(599, "hung up", 0),
        Answered(400, '{"error": {"message": "no"}}', 0),
        Answered(400, '{"error": {"message": "nonce:\\nno"}}', 0),
        Answered(400, '{"error": {"message": "sampling_params: no"}}', 0),
    ):
        with pytest.raises(AssertionError):
            fuzzer.judge(ours, answer)
    fuzzer.judge(ours, Answered(400, '{"error": {"message": "nonce: no"}}', 0))
    body = encoded(WELL["/generate"])
    right = fuzzer.send(Attack("", "/generate", body))
    wrong = right._replace(text=right.text.replace('"text":"', '"text":"x'))
    fuzzer.judge(Attack("", "/generate", body), wrong)
    with pytest.raises(AssertionError):
        fuzzer.judge(Attack("", "/generate", body), Answered(200, '{"text": "no receipt"}', 0))
    with pytest.raises(AssertionError):
        fuzzer.look_after()


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_stop_regex_is_matched_in_linear_time(url, deterministic):
    """Python's `re` would take hours."""
    options = {"regex": "a{60}", "stop_regex": "(a+)+b", "ignore_eos": False, "max_new_tokens": 80}
    answer = client.generate(url, client.prompts()[0], deterministic, **options)
    assert answer.text == "a" * 60


def test_a_stop_regex_ends_an_answer(url):
    options = {"regex": "(a{9}b)", "stop_regex": "a{4,5}", "ignore_eos": False}
    answer = client.generate(url, client.prompts()[0], **options)
    assert answer.meta["finish_reason"]["matched"] == "a{4,5}"


def test_a_busy_server_is_healthy_and_says_so(url):
    body = client.body(client.prompts()[LONG], max_new_tokens=600)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.ask, url, body)
        statuses = []
        while not running.done():
            statuses.append(client.get(url, "/health"))
            time.sleep(0.2)
    assert {response.status_code for response in statuses} == {200}
    assert any(response.text and response.json()["status"] == "busy" for response in statuses)
    assert client.get(url, "/health_generate").status_code == 200
