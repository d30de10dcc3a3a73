"""What deterministic service costs traffic that does not use it: llm42's server against stock.

    scripts/run python scripts/bench_ordinary.py [--rounds 6]

Both servers run on the same platform with the same flags; stock has no llm42 hook at all. They are
loaded in turn, A B A B, with the same ordinary requests, and the other one sleeps meanwhile. Prints
output-token throughput round by round, and as its last line JSON with `ratio_to_stock`: the median
over rounds of llm42's throughput over stock's.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.launch import ServerProcess, local_client
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.platform import default_group

REQUESTS = 12
IN_FLIGHT = 6
PROMPT_TOKENS = 64
NEW_TOKENS = 64
TIMEOUT_S = 600


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="measured rounds of each server")
    rounds = parser.parse_args().rounds
    flags = ["--model-path", str(ensure_default_model(print)), "--max-total-tokens", "20000"]
    same = ["--page-size", "32", "--disable-overlap-schedule", "--random-seed", "1"]
    stock_argv = [sys.executable, "-m", "sglang.launch_server", "--port", "{port}", *flags, *same]
    logs = cache_dir() / "logs"
    # Only the platform's plugin is loaded there: without it stock SGLang does not run on this host.
    stock = ServerProcess(
        argv=stock_argv, env={"SGLANG_PLUGINS": "llm42_cpu"}, log_path=logs / "bench-stock.log"
    )
    ours = ServerProcess([*flags, "--random-seed", "1"], log_path=logs / "bench-llm42.log")
    print(f"hardware: {psutil.cpu_count()} cores, {platform.machine()}, {platform.platform()}")
    print(f"workload: {REQUESTS} ordinary greedy requests, {IN_FLIGHT} in flight, "
          f"{PROMPT_TOKENS} prompt and {NEW_TOKENS} new tokens; G={default_group()}")  # fmt: skip
    with stock, ours:
        for server in (stock, ours):
            throughput(server.url)  # warm-up
        pairs = []
        for number in range(rounds):
            pairs.append((throughput(stock.url), throughput(ours.url)))
            print("round {}: stock {:.1f} tok/s, llm42 {:.1f} tok/s".format(number + 1, *pairs[-1]))
    ratios = [ours / stock for stock, ours in pairs]
    print(json.dumps({"ratio_to_stock": statistics.median(ratios), "ratios": ratios}))


def throughput(url: str) -> float:
    """Output tokens per second over all requests, from an empty prefix cache."""
    with local_client(url, TIMEOUT_S) as client:
        client.post("/flush_cache").raise_for_status()
    began = time.perf_counter()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(lambda seed: request(url, seed), range(REQUESTS)))
    return REQUESTS * NEW_TOKENS / (time.perf_counter() - began)


def request(url: str, seed: int) -> None:
    """One ordinary request with a prompt of its own."""
    ids = [(seed * 7919 + i * 104729) % 40000 + 100 for i in range(PROMPT_TOKENS)]
    params = {"temperature": 0, "max_new_tokens": NEW_TOKENS, "ignore_eos": True}
    with local_client(url, TIMEOUT_S) as client:
        body = {"input_ids": ids, "sampling_params": params}
        client.post("/generate", json=body).raise_for_status()


if __name__ == "__main__":
    main()
