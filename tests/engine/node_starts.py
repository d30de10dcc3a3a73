"""What happens to nodes that are started wrongly, or killed, and which layouts of ranks hold.

`scripts/nodes` runs it. It prints the rows of two tables, which docs/nodes.md has. All nodes are on
this machine, and each start is given a minute and a half.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sglang.srt.utils import kill_process_tree

from llm42_sglang.cli.launch import HOST, free_port
from llm42_sglang.cli.main import main as llm42
from llm42_sglang.errors import UserError
from tests.engine import client, tiny_models
from tests.engine.preloaded import LLM42, Forked, preload
from tests.engine.servers import CORES, ENV, POOL, SMALL, errors_in
from tests.engine.two_nodes import flags_of, new_address

DEADLINE_S = 100
TP = ("--tp-size", "2")
OLDER, STOCK = "tests.engine.node_starts:older", "tests.engine.node_starts:stock"
NO_PLUGIN = {"SGLANG_PLUGINS": "llm42_cpu"}


def older(arguments: Sequence[str]) -> None:
    """`llm42` of another version."""
    from llm42_sglang.engine.start import fingerprint

    fingerprint.__version__ = "0.0.1"
    llm42(arguments)


def stock(arguments: Sequence[str]) -> None:
    """`python -m sglang.launch_server`, without our flags."""
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args

    ours = [i for i, flag in enumerate(arguments) if flag.startswith("--llm42")]
    dropped = {0, *ours, *(i + 1 for i in ours)}
    plain = [word for i, word in enumerate(arguments) if i not in dropped]
    run_server(prepare_server_args([*plain, "--page-size", "16", "--device", "cpu"]))


@dataclass(frozen=True)
class One:
    """How one node is started, where it is not as usual."""

    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    program: str = LLM42
    model: str = "qwen3"
    rank: int | None = None  # another --node-rank


@dataclass(frozen=True)
class Start:
    """Nodes that are started together, node 0 first."""

    what: str
    nodes: tuple[One, ...]
    then: str = ""  # what happens once they serve: "kill …", "stop …"


USUAL = One()
STARTS = (
    Start("node 1 is a stock SGLang server", (USUAL, One(program=STOCK))),
    Start("node 1 is a stock SGLang server without our plugin", (USUAL, One((), NO_PLUGIN, STOCK))),
    Start("node 0 is a stock SGLang server", (One(program=STOCK), USUAL)),
    Start("node 1 has another version of llm42", (USUAL, One(program=OLDER))),
    Start("node 1 has other weights", (USUAL, One(model="qwen3, one weight changed"))),
    Start("node 1 has another T", (USUAL, One(("--llm42-page", "32")))),
    Start("node 1 has another G", (USUAL, One(("--llm42-group", "2")))),
    Start("node 1 verifies everything", (USUAL, One(("--llm42-verify", "always")))),
    Start("node 1 drafts", (USUAL, One(("--llm42-drafts", "ngram")))),
    Start("node 1 has another flag of SGLang's", (USUAL, One(("--chunked-prefill-size", "64")))),
    Start("node 1 multiplies otherwise", (USUAL, One(env={"LLM42_CPU_LINEAR": "native"}))),
    Start("node 1 has other threads", (USUAL, One(env={"OMP_NUM_THREADS": "2"}))),
    Start("node 1 has another CPU", (USUAL, One(env={"ATEN_CPU_CAPABILITY": "avx2"}))),
    Start("node 1 has more ranks", (USUAL, One(("--tp-size", "4")))),
    Start("a third node says that it is node 1", (USUAL, USUAL, One(rank=1))),
    Start("node 1 is not there", (One(("--dist-timeout", "15")),)),
    Start("node 0 is not there", (One(("--dist-timeout", "15"), rank=1),)),
    Start("later the scheduler of node 1 is killed", (USUAL, USUAL), "kill scheduler 1"),
    Start("later the scheduler of node 0 is killed", (USUAL, USUAL), "kill scheduler 0"),
    Start("later all of node 1 is killed", (USUAL, USUAL), "kill node 1"),
    Start("later all of node 0 is killed", (USUAL, USUAL), "kill node 0"),
    Start(
        "later node 1 stands still (`--watchdog-timeout 15`)",
        (One(("--watchdog-timeout", "15")),) * 2,
        "stop scheduler 1",
    ),
)


@dataclass(frozen=True)
class Layout:
    """Ranks, replicas and nodes of a model whose heads can be divided."""

    flags: tuple[str, ...]
    nodes: int = 1


LAYOUTS = (
    Layout(("--tp-size", "2")),
    Layout(("--tp-size", "2"), nodes=2),
    Layout(("--tp-size", "3")),
    Layout(("--tp-size", "4")),
    Layout(("--tp-size", "4"), nodes=2),
    Layout(("--tp-size", "2", "--dp-size", "2")),
    Layout(("--tp-size", "2", "--dp-size", "2"), nodes=2),
    Layout(("--dp-size", "3")),
)


class Nodes:
    """Started nodes, and their logs."""

    def __init__(self, folder: Path, name: str, argvs: Sequence[tuple[One, list[str]]]) -> None:
        self.began = time.monotonic()
        self.url = ""
        self.logs = [folder / f"{name}.{i}.log" for i in range(len(argvs))]
        self.processes = []
        for log, (one, argv) in zip(self.logs, argvs, strict=True):
            port = free_port()
            self.url = self.url or f"http://{HOST}:{port}"
            env = os.environ | ENV | CORES | dict(one.env)
            arguments = ["serve", "--port", str(port), *argv]
            self.processes.append(Forked(arguments, env, log, one.program))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def serve(self) -> bool:
        """Whether node 0 is healthy, once that is clear."""
        while self.seconds < DEADLINE_S and any(p.poll() is None for p in self.processes):
            with suppress(httpx.HTTPError, UserError):
                if client.get(self.url, "/health").status_code == 200:
                    return True
            time.sleep(0.5)
        return False

    def ends(self, within: float = 60) -> list[str]:
        """How each node has ended, in words."""
        began = time.monotonic()
        ended: dict[int, str] = {}
        while len(ended) < len(self.processes) and time.monotonic() - began < within:
            for i, process in enumerate(self.processes):
                if process.poll() is not None:
                    ended.setdefault(i, f"{process.poll()} after {time.monotonic() - began:.0f} s")
            time.sleep(0.2)
        return [ended.get(i, "still runs") for i in range(len(self.processes))]

    def scheduler(self, node: int) -> psutil.Process:
        """The first process that the node has started."""
        family = psutil.Process(self.processes[node].pid).children(recursive=True)
        return min(family, key=lambda process: process.pid)

    def said(self) -> list[str]:
        """Every line of ours, once."""
        logs = [log.read_text(errors="replace") for log in self.logs]
        return list(dict.fromkeys(line for log in logs for line in errors_in(log)))

    def kill(self) -> None:
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                kill_process_tree(process.pid)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def happen(nodes: Nodes, what: str) -> str:
    """Kill or stop something while a client waits; what the client gets."""
    verb, whole, node = what.split()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, nodes.url, client.body([5, 6, 7], max_new_tokens=1500))
        time.sleep(1)
        number = signal.SIGKILL if verb == "kill" else signal.SIGSTOP
        if whole == "node":
            os.killpg(nodes.processes[int(node)].pid, number)
        else:
            nodes.scheduler(int(node)).send_signal(number)
        nodes.began = time.monotonic()
        try:
            answer = asked.result(timeout=90)
            return f"an answer with status {answer.status}"
        except Exception as error:
            return f"{type(error).__name__} after {nodes.seconds:.0f} s"


def run_start(start: Start, folder: Path, number: int) -> str:
    """A row of the table."""
    address = new_address()
    argvs = []
    for i, one in enumerate(start.nodes):
        model = tiny_models.make(one.model, folder)
        rank = i if one.rank is None else one.rank
        argv = [*SMALL, *POOL, *TP, "--model-path", str(model), *one.flags]
        argvs.append((one, [*argv, *flags_of(rank, address)]))
    nodes = Nodes(folder, f"start-{number}", argvs)
    try:
        healthy = nodes.serve()
        seconds = nodes.seconds
        client_got = happen(nodes, start.then) if healthy and start.then else ""
        ends = nodes.ends(60 if not healthy or start.then else 1)
        outcome = "serves" if healthy else f"does not start, within {seconds:.0f} s"
        if start.then:
            outcome = f"the client: {client_got}" if healthy else outcome
        said = "; ".join(nodes.said()) or "nothing"
        return f"| {start.what} | {outcome} | {', '.join(ends)} | {said} |"
    finally:
        nodes.kill()


def run_layout(layout: Layout, folder: Path, number: int) -> str:
    """A row of the table: certified and the same alone and in load, or refused."""
    address = new_address()
    argv = [*SMALL, *POOL, "--model-path", str(divisible(folder)), *layout.flags]
    cores = {"SGLANG_CPU_OMP_THREADS_BIND": "0|1|0|1"}
    argvs = [
        (One(env=cores), [*argv, *(flags_of(i, address, layout.nodes) if layout.nodes > 1 else [])])
        for i in range(layout.nodes)
    ]
    nodes = Nodes(folder, f"layout-{number}", argvs)
    name = f"| `{' '.join(layout.flags)}` | {layout.nodes} |"
    try:
        if not nodes.serve():
            nodes.ends(20)
            return f"{name} refused: {'; '.join(nodes.said()) or 'by SGLang, see its log'} |"
        bodies = [client.body(ids) | {"return_logprob": True} for ids in client.prompts()[2:8]]
        alone = client.bits_of(client.ask_all(nodes.url, bodies, 1))
        client.flush(nodes.url)
        load = client.bits_of(client.ask_all(nodes.url, bodies * 2, 12))
        same = load == alone * 2
        certificate = client.get(nodes.url, "/llm42/fingerprint").json()["certificate"]
        widths, sizes = certificate["widths"], certificate["step_sizes"]
        return (
            f"{name} {'holds' if same else '**DIFFERS**'}: passes of {widths} slots, "
            f"{len(sizes)} sizes of steps; 18 answers, alone and in load |"
        )
    finally:
        nodes.kill()


def divisible(folder: Path) -> Path:
    """A model whose heads and sizes 2, 3 and 4 ranks can divide."""
    from transformers import Qwen3Config

    path = folder / "divisible"
    if not path.exists():
        heads = {"num_attention_heads": 12, "num_key_value_heads": 12, "intermediate_size": 384}
        tiny_models.save(Qwen3Config(**tiny_models.SHAPE | heads), path)
    return path


def main() -> None:
    """Run some rows, or all, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", nargs="*", type=int, default=[*range(len(STARTS))])
    parser.add_argument("--layouts", nargs="*", type=int, default=[*range(len(LAYOUTS))])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="llm42-nodes-"))
    preload(ENV)
    print(f"logs: {folder}", flush=True)
    for i in options.starts:
        print(run_start(STARTS[i], folder, i), flush=True)
    for i in options.layouts:
        print(run_layout(LAYOUTS[i], folder, i), flush=True)


if __name__ == "__main__":
    main()
