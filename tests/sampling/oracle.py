"""What the sampler must do, in plain Python. It is slow, and was written without a look at it."""

from collections.abc import Sequence
from math import exp, inf

from llm42_sglang.sampling import Plan


def probabilities(logits: Sequence[float], plan: Plan) -> list[float]:
    """Softmax at the plan's temperature, before any restriction."""
    largest = max(logits)
    weights = [exp((x - largest) / plan.temperature) for x in logits]
    return [w / sum(weights) for w in weights]


def kept(logits: Sequence[float], plan: Plan) -> set[int]:
    """Token ids that top-k, top-p and min-p leave."""
    probs = probabilities(logits, plan)
    ranked = sorted(range(len(probs)), key=lambda i: (-logits[i], i))
    ids, before = set(), 0.0
    for rank, i in enumerate(ranked):
        dropped = (
            rank >= plan.top_k
            or (plan.top_p < 1 and before > plan.top_p)
            or probs[i] < plan.min_p * max(probs)
        )
        if not dropped and logits[i] > -inf:
            ids.add(i)
        before += probs[i]
    return ids


def distribution(logits: Sequence[float], plan: Plan) -> list[float]:
    """What `sample` draws from: the kept probabilities, renormalised."""
    ids, probs = kept(logits, plan), probabilities(logits, plan)
    total = sum(probs[i] for i in ids)
    return [p / total if i in ids else 0.0 for i, p in enumerate(probs)]


def boundary_distance(logits: Sequence[float], plan: Plan) -> float:
    """How near top-p or min-p comes to a tie that rounding decides; inf when neither is asked."""
    probs = sorted(probabilities(logits, plan), reverse=True)
    sums = [sum(probs[:i]) for i in range(1, len(probs))]
    nearest = [inf]
    if plan.top_p < 1:
        nearest += [abs(s - plan.top_p) for s in sums]
    if 0 < plan.min_p < 1:
        nearest += [abs(p / probs[0] - plan.min_p) for p in probs]
    return min(nearest)
