"""A policy-gradient loop that ends with the same weights, bit for bit, however busy its server is.

    llm42 serve --port 30000
    python examples/rl/train.py --url http://localhost:30000

README.md beside this file says what to expect.
"""

import argparse
import hashlib
import os
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import torch
from sglang.srt.utils import MultiprocessingSerializer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from llm42_sglang.cli.model import ensure_default_model

PROMPTS = ("The moon is", "Once upon a time", "My favourite food is", "In the year 3000")
GROUP = 8  # answers to each prompt in a step
NEW_TOKENS = 24
LEARNING_RATE = 1e-4
THREADS = 2  # of the trainer: another number sums in another order


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--url", default="http://localhost:30000")
    arguments.add_argument("--model", help="folder of the server's model, if not its default")
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--load", type=int, default=0, help="requests of others, at a time")
    arguments.add_argument("--ordinary", action="store_true", help="do not ask for determinism")
    options = arguments.parse_args()
    server = Server(options.url, deterministic=not options.ordinary)
    with load(options.url, options.load):
        weights = train(server, options.model or str(ensure_default_model()), options.steps)
    print("final weights:", weights)


def train(server: "Server", path: str, steps: int) -> str:
    """Train the model in the folder `path`. Return the digest of its final weights."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)
    share_tensors_by_name()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    for step in range(steps):
        server.load_weights(model)
        groups = server.rollouts(prompts, first_seed=step * len(prompts) * GROUP)
        rewards = [learn(model, *pair) for pair in zip(prompts, groups, strict=True)]
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: reward {sum(rewards) / len(rewards):.3f}", flush=True)
    return digest(model)


def reward(answer: Sequence[int]) -> float:
    """A toy: the share of even token ids."""
    return sum(token % 2 == 0 for token in answer) / len(answer)


def learn(model: PreTrainedModel, prompt: list[int], group: "Group") -> float:
    """Add the gradient of REINFORCE for the answers to one prompt. Return their mean reward.

    The server computes in bfloat16 and the trainer in float32, so their logprobs differ a little.
    The ratio of the probabilities corrects for that.
    """
    answers, served = group
    rewards = torch.tensor([reward(answer) for answer in answers.tolist()])
    advantages = rewards - rewards.mean()  # the group is its own baseline
    ids = torch.cat([torch.tensor([prompt] * GROUP), answers], dim=1)
    logits = model(ids).logits[:, -NEW_TOKENS - 1 : -1]  # row i is of the token behind it
    logprobs = logits.log_softmax(-1).gather(-1, answers[:, :, None])[:, :, 0]
    ratios = (logprobs - served).exp().clamp(max=2)
    (-(ratios * advantages[:, None]).mean() / len(PROMPTS)).backward()
    return rewards.mean().item()


def digest(model: PreTrainedModel) -> str:
    """SHA-256 over the bytes of all weights, in the model's order."""
    sha256 = hashlib.sha256()
    for weight in model.parameters():
        sha256.update(weight.detach().numpy())
    return sha256.hexdigest()


# Token ids of GROUP answers to one prompt, and the server's logprobs of them: [GROUP, NEW_TOKENS].
Group = tuple[torch.Tensor, torch.Tensor]


class Server:
    """What a trainer wants of its server: that it takes new weights, and answers."""

    def __init__(self, url: str, deterministic: bool = True) -> None:
        self.url = url
        self.deterministic = deterministic

    def post(self, path: str, **body: Any) -> Any:
        """The JSON that comes back. Ends the program if the server refuses."""
        response = httpx.post(self.url + path, json=body, timeout=600, trust_env=False)
        if response.status_code != 200:
            raise SystemExit(f"{path} was answered with {response.status_code}: {response.text}")
        return response.json()

    def load_weights(self, model: PreTrainedModel) -> None:
        """Replace the server's weights. Requests of others wait, and go on with the new ones."""
        tensors = [(name, w.detach().bfloat16()) for name, w in model.named_parameters()]
        handles = MultiprocessingSerializer.serialize(tensors, output_str=True)  # not the bytes
        self.post("/pause_generation", mode="retract")
        try:
            self.post("/begin_weight_update")
            self.post("/update_weights_from_tensor", serialized_named_tensors=[handles])
            self.post("/end_weight_update")
        finally:
            self.post("/continue_generation")

    def rollouts(self, prompts: list[list[int]], first_seed: int) -> list[Group]:
        """Ask for all groups at once. They come back in the prompts' order."""
        seeds = [first_seed + i * GROUP for i in range(len(prompts))]
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(self.group, prompts, seeds))

    def group(self, prompt: list[int], seed: int) -> Group:
        """The first of the answers is drawn with `seed`, the next one with seed + 1, and so on."""
        sampling = {"temperature": 1, "max_new_tokens": NEW_TOKENS, "ignore_eos": True}
        sampling |= {"n": GROUP, "sampling_seed": seed, "deterministic": self.deterministic}
        request = {"input_ids": prompt, "sampling_params": sampling, "return_logprob": True}
        answers = self.post("/generate", **request)
        rows = [answer["meta_info"]["output_token_logprobs"] for answer in answers]
        logprobs = torch.tensor([[logprob for logprob, _, _ in row] for row in rows])
        return torch.tensor([[token for _, token, _ in row] for row in rows]), logprobs


def share_tensors_by_name() -> None:
    """Have tensors lie in shared memory with a file name, by which the server can open them.

    Torch starts a helper for that, which stays as long as the server. It must not hold our stderr
    open: a pipe behind this program would not end with it.
    """
    torch.multiprocessing.set_sharing_strategy("file_system")
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    torch.empty(1).share_memory_()  # starts the helper
    os.dup2(stderr, 2)
    os.close(stderr)


@contextmanager
def load(url: str, streams: int) -> Iterator[None]:
    """Ordinary requests of others, `streams` at a time. They are other ones in every run."""
    stop = threading.Event()

    def talk() -> None:
        other = Server(url)
        while not stop.is_set():
            prompt = [random.randrange(1000) for _ in range(random.randrange(1, 50))]
            sampling = {"max_new_tokens": random.randrange(1, 50), "deterministic": False}
            other.post("/generate", input_ids=prompt, sampling_params=sampling)

    with ThreadPoolExecutor(max(streams, 1)) as pool:
        others = [pool.submit(talk) for _ in range(streams)]
        try:
            yield
        finally:
            stop.set()
        for other in others:
            other.result()


if __name__ == "__main__":
    main()
