"""What happens to nodes that are started wrongly, or killed, and which layouts of ranks hold.

`scripts/nodes` runs it. Each row says what must happen, and the status is 1 if one did not. The
result, as JSON, has all rows and what was wrong; docs/nodes.md has the tables. All nodes are on
this machine.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from tests.engine import client, tiny_models
from tests.engine.preloaded import preload
from tests.engine.servers import ENV, POOL, SMALL
from tests.engine.started import OLDER, STOCK, Nodes, One
from tests.engine.two_nodes import flags_of, new_address

START_S, LAYOUT_S = 100, 200  # until which node 0 must be healthy
TP = ("--tp-size", "2")
FOUR_CORES = {"SGLANG_CPU_OMP_THREADS_BIND": "0|1|0|1"}
NO_PLUGIN = {"SGLANG_PLUGINS": "llm42_cpu"}
ALONE = ("--dist-timeout", "15")
WATCHED = ("--watchdog-timeout", "15")


@dataclass(frozen=True)
class Start:
    """Nodes that are started together, node 0 first. Nothing may serve, and ours all end."""

    what: str
    nodes: tuple[One, ...]
    expected: str  # a line says this
    then: str = (
        ""  # what happens once they serve: "kill …", "stop …"; then the client gets an error
    )
    may_serve: bool = False  # the others, if they have met before


def differs(name: str) -> str:
    """The line of cards that differ in this first."""
    return f"node 1 differs from node 0 in {name} ("


USUAL = One()
LOST, GONE = "another rank may have ended", "a scheduler of node 1 has ended with status -9"
STARTS = (
    Start(
        "node 1 is a stock SGLang server", (USUAL, One(program=STOCK)), "no word from node 1; start"
    ),
    Start(
        "node 1 is a stock SGLang server without our plugin",
        (USUAL, One((), NO_PLUGIN, STOCK)),
        "no word from node 1; start",
    ),
    Start(
        "node 0 is a stock SGLang server", (One(program=STOCK), USUAL), "no word from node 0; start"
    ),
    Start("node 1 has another version of llm42", (USUAL, One(program=OLDER)), differs("llm42")),
    Start(
        "node 1 has other weights",
        (USUAL, One(model="qwen3, one weight changed")),
        "node 1 has read other weights than node 0",
    ),
    Start("node 1 has another T", (USUAL, One(("--llm42-page", "32"))), differs("--llm42-page")),
    Start("node 1 has another G", (USUAL, One(("--llm42-group", "2"))), differs("--llm42-group")),
    Start(
        "node 1 verifies everything",
        (USUAL, One(("--llm42-verify", "always"))),
        differs("--llm42-verify"),
    ),
    Start("node 1 drafts", (USUAL, One(("--llm42-drafts", "ngram"))), differs("--llm42-drafts")),
    Start(
        "node 1 has another flag of SGLang's",
        (USUAL, One(("--chunked-prefill-size", "64"))),
        differs("--chunked-prefill-size"),
    ),
    Start(
        "node 1 multiplies otherwise",
        (USUAL, One(env={"LLM42_CPU_LINEAR": "native"})),
        differs("LLM42_CPU_LINEAR"),
    ),
    Start(
        "node 1 has other threads",
        (USUAL, One(env={"OMP_NUM_THREADS": "2"})),
        "rank 1 differs from rank 0 in threads (",
    ),
    Start(
        "node 1 has another CPU",
        (USUAL, One(env={"ATEN_CPU_CAPABILITY": "avx2"}, spawns=True)),
        "rank 1 differs from rank 0 in device (",
    ),
    Start(
        "node 1 has more ranks", (USUAL, One(("--tp-size", "4"), FOUR_CORES)), differs("--tp-size")
    ),
    Start(
        "a third node says that it is node 1",
        (USUAL, USUAL, One(rank=1)),
        "two nodes have --node-rank 1",
        may_serve=True,
    ),
    Start("node 1 is not there", (One(ALONE),), "no word from node 1 for 15 s"),
    Start("node 0 is not there", (One(ALONE, rank=1),), "node 1 cannot meet the others at"),
    Start("later the scheduler of node 1 is killed", (USUAL, USUAL), GONE, "kill scheduler 1"),
    Start("later the scheduler of node 0 is killed", (USUAL, USUAL), LOST, "kill scheduler 0"),
    Start("later all of node 1 is killed", (USUAL, USUAL), LOST, "kill node 1"),
    Start("later all of node 0 is killed", (USUAL, USUAL), LOST, "kill node 0"),
    Start(
        "later node 1 stands still (`--watchdog-timeout 15`)",
        (One(WATCHED), One(WATCHED)),
        "watchdog timeout",
        "stop scheduler 1",
    ),
)


@dataclass(frozen=True)
class Layout:
    """Ranks, replicas and nodes of a model whose heads can be divided."""

    flags: tuple[str, ...]
    nodes: int = 1
    holds: bool = False  # it must serve; of the others a refusal is right as well


LAYOUTS = (
    Layout(("--tp-size", "2"), holds=True),
    Layout(("--tp-size", "2"), nodes=2, holds=True),
    Layout(("--tp-size", "3")),
    Layout(("--tp-size", "4")),
    Layout(("--tp-size", "4"), nodes=2),
    Layout(("--tp-size", "2", "--dp-size", "2")),
    Layout(("--tp-size", "2", "--dp-size", "2"), nodes=2),
    Layout(("--dp-size", "3"), holds=True),
)


@dataclass(frozen=True)
class Seen:
    """What came of a start. ends: the status of each node, None for one that still runs."""

    healthy: bool
    ends: Sequence[int | None]
    said: Sequence[str]
    client: str = ""  # what it got, after `then`
    served: bool = False  # the client got an answer after all


def problems_of_start(start: Start, seen: Seen, ours: Sequence[int]) -> list[str]:
    """What did not happen as it must. ours: the nodes that llm42 started."""
    found = []
    if not any(start.expected in line for line in seen.said):
        found.append(f"nobody said {start.expected!r}")
    if start.then and not seen.healthy:
        found.append("it did not serve at first")
    if seen.served:
        found.append(f"the client got {seen.client}")
    if seen.healthy and not start.then and not start.may_serve:
        found.append("it serves")
    if start.may_serve and seen.healthy:
        ours = [len(start.nodes) - 1]  # the one that came too late
    stands_still = [int(start.then.split()[2])] if start.then.startswith("stop") else []
    for i in {*ours} - {*stands_still}:
        if not seen.ends[i]:
            found.append(f"node {i} {ended(seen.ends[i])}")
    return found


def problems_of_layout(layout: Layout, seen: Seen, same: bool) -> list[str]:
    """What is wrong. same: whether answers in load were those alone."""
    if seen.healthy:
        return [] if same else ["answers in load differ from those alone"]
    found = ["it does not serve"] if layout.holds else []
    return found + ["it neither serves nor ends"] * (None in seen.ends)


def ended(status: int | None) -> str:
    """A node's end, in words."""
    return "still runs" if status is None else f"ends with status {status}"


def happen(nodes: Nodes, what: str) -> tuple[bool, str]:
    """Kill or stop something while a client waits; whether it got an answer, and what it got."""
    verb, whole, node = what.split()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, nodes.url, client.body([5, 6, 7], max_new_tokens=1500))
        time.sleep(1)
        number = signal.SIGKILL if verb == "kill" else signal.SIGSTOP
        if whole == "node":
            os.killpg(nodes.processes[int(node)].pid, number)
        else:
            nodes.scheduler(int(node)).send_signal(number)
        began = time.monotonic()
        try:
            answer = asked.result(timeout=90)
        except (httpx.HTTPError, UserError, TimeoutError) as error:
            seconds = time.monotonic() - began
            return False, f"an error after {seconds:.0f} s ({type(error).__name__})"
        return answer.status == 200, f"an answer with status {answer.status}"


def run_start(start: Start, folder: Path, number: int) -> dict[str, Any]:
    """A row of the first table."""
    address = new_address()
    argvs = []
    for i, one in enumerate(start.nodes):
        model = tiny_models.make(one.model, folder)
        rank = i if one.rank is None else one.rank
        argv = [*SMALL, *POOL, *TP, "--model-path", str(model), *one.flags]
        argvs.append((one, [*argv, *flags_of(rank, address)]))
    nodes = Nodes(folder, f"start-{number}", argvs)
    try:
        healthy = nodes.serve(START_S)
        outcome = "serves" if healthy else f"does not start, within {nodes.seconds:.0f} s"
        served, got = happen(nodes, start.then) if healthy and start.then else (False, "")
        ends = nodes.ends(10 if healthy and not start.then else 60)
        seen = Seen(healthy, ends, nodes.said(), got, served)
        wrong = problems_of_start(start, seen, nodes.ours)
    finally:
        nodes.kill()
    outcome = f"the client gets {got}" if got else outcome
    return {
        **{"what": start.what, "outcome": outcome, "expected": start.expected},
        **{"ends": ends, "said": seen.said, "wrong": wrong},
    }


def run_layout(layout: Layout, folder: Path, number: int) -> dict[str, Any]:
    """A row of the second table: certified and the same alone and in load, or refused."""
    address = new_address()
    argv = [*SMALL, *POOL, "--model-path", str(divisible(folder)), *layout.flags]
    argvs = [
        (
            One(env=FOUR_CORES),
            [*argv, *(flags_of(i, address, layout.nodes) if layout.nodes > 1 else [])],
        )
        for i in range(layout.nodes)
    ]
    nodes = Nodes(folder, f"layout-{number}", argvs)
    same, outcome = False, "does not serve"
    try:
        healthy = nodes.serve(LAYOUT_S)
        if healthy:
            same, outcome = compare(nodes.url)
        seen = Seen(healthy, nodes.ends(0.1 if healthy else 30), nodes.said())
    finally:
        nodes.kill()
    return {
        **{"flags": " ".join(layout.flags), "nodes": layout.nodes, "outcome": outcome},
        **{"ends": seen.ends, "said": seen.said},
        "wrong": problems_of_layout(layout, seen, same),
    }


def compare(url: str) -> tuple[bool, str]:
    """Whether answers are the same alone and in load, and what was compared."""
    bodies = [client.body(ids) | {"return_logprob": True} for ids in client.prompts()[2:8]]
    alone = client.bits_of(client.ask_all(url, bodies, 1))
    client.flush(url)
    same = client.bits_of(client.ask_all(url, bodies * 2, 12)) == alone * 2
    certificate = client.get(url, "/llm42/fingerprint").json()["certificate"]
    widths, sizes = certificate["widths"], certificate["step_sizes"]
    counts = f"passes of {widths} slots, {len(sizes)} sizes of steps; {3 * len(bodies)} answers"
    return same, f"{'holds' if same else 'differs'}: {counts}, alone and in load"


def divisible(folder: Path) -> Path:
    """A model whose heads and sizes 2, 3 and 4 ranks can divide."""
    from transformers import Qwen3Config

    path = folder / "divisible"
    if not path.exists():
        heads = {"num_attention_heads": 12, "num_key_value_heads": 12, "intermediate_size": 384}
        tiny_models.save(Qwen3Config(**tiny_models.SHAPE | heads), path)
    return path


def run(options: argparse.Namespace, folder: Path) -> list[str]:
    """Run the rows, write the result after each; what was wrong."""
    result: dict[str, Any] = {
        "command": shlex.join(["scripts/nodes", *sys.argv[1:]]),
        "hardware": hardware(),
        **{"starts": [], "layouts": [], "wrong": [], "interrupted": True},
    }
    rows = [("starts", i) for i in options.starts] + [("layouts", i) for i in options.layouts]
    for turn, (kind, i) in enumerate(rows, start=1):
        of_kind = (run_start, STARTS) if kind == "starts" else (run_layout, LAYOUTS)
        row = of_kind[0](of_kind[1][i], folder, i)
        print(json.dumps(row), flush=True)
        result[kind].append(row)
        name = row.get("what") or f"{row['flags']} on {row['nodes']} nodes"
        result["wrong"] += [f"{name}: {problem}" for problem in row["wrong"]]
        result["interrupted"] = turn < len(rows)
        if options.out:
            write_whole(options.out, json.dumps(result, indent=1) + "\n")
    return result["wrong"]


def main() -> None:
    """Run some rows, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", nargs="*", type=int, default=[*range(len(STARTS))])
    parser.add_argument("--layouts", nargs="*", type=int, default=[*range(len(LAYOUTS))])
    parser.add_argument("--out", type=Path, help="write the rows here, as JSON")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="llm42-nodes-"))
    leave_on_signals()
    preload(ENV)
    print(f"logs: {folder}", flush=True)
    wrong = run(options, folder)
    print("\n".join(wrong) or "all as expected", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
