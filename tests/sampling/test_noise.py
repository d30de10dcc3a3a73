"""The noise has the right distribution, and ids, positions and seeds are independent."""

from math import exp

import pytest
import torch

from llm42_sglang.sampling import gumbel
from llm42_sglang.sampling.noise import gumbel_at, uniform_at

N = 20_000
IDS = torch.arange(N)
EXTREME_SEEDS = [0, 1, -1, 42, 2**32, 2**63 - 1, -(2**63)]


def splitmix64(state: int) -> int:
    """Next output of the published generator, in plain integers."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@pytest.mark.parametrize("seed", EXTREME_SEEDS)
def test_bits_are_those_of_plain_integers(seed: int):
    """torch's wrapping products and signed shifts, against Python's unbounded ones."""
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # known answer
    step, position = 0x9E3779B97F4A7C15, 17
    key = splitmix64((splitmix64(seed % 2**64) + position) % 2**64)
    states = [(key + (i - 1) * step) % 2**64 for i in range(100)]
    expected = [((splitmix64(s) >> 12) * 2 + 1) / 2**53 for s in states]
    assert uniform_at(seed, position, IDS[:100]).tolist() == expected


@pytest.mark.parametrize("seed", EXTREME_SEEDS)
def test_uniforms_are_inside_and_uniform(seed: int):
    u = uniform_at(seed, 5, IDS)
    assert u.min() > 0 and u.max() < 1
    ranks = (torch.arange(N) + 0.5) / N
    kolmogorov = (u.sort().values - ranks).abs().max().item() * N**0.5
    assert 2 * exp(-2 * kolmogorov**2) > 1e-6


def test_gumbel_moments():
    noise = gumbel(7, 3, N, "cpu")
    assert noise.dtype == torch.float64 and noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.05)
    assert noise.var().item() == pytest.approx(1.6449, abs=0.1)


def test_an_ids_noise_does_not_know_its_neighbours():
    whole = gumbel(7, 3, N, "cpu")
    assert torch.equal(gumbel(7, 3, 100, "cpu"), whole[:100])
    some = torch.tensor([19_999, 0, 4, 4, 777])
    assert torch.equal(gumbel_at(7, 3, some), whole[some])


def test_drawing_takes_nothing_from_a_stream():
    torch.manual_seed(0)
    first, state = gumbel(7, 3, 50, "cpu"), torch.get_rng_state()
    gumbel(8, 4, 50, "cpu")
    assert torch.equal(gumbel(7, 3, 50, "cpu"), first)
    assert torch.equal(torch.get_rng_state(), state)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """In standard deviations of two unrelated samples."""
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item() * N**0.5


@pytest.mark.parametrize("distance", [1, 2, 32, 1 << 32])
@pytest.mark.parametrize("seed", [0, 42, -1])
def test_seeds_and_positions_are_unrelated(seed: int, distance: int):
    u = uniform_at(seed, 100, IDS)
    assert abs(correlation(u, uniform_at(seed + distance, 100, IDS))) < 5
    assert abs(correlation(u, uniform_at(seed, 100 + distance, IDS))) < 5
    assert abs(correlation(u, uniform_at(seed + distance, 100 - distance, IDS))) < 5
    assert abs(correlation(u[distance % N :], u[: N - distance % N])) < 5


def test_correlation_is_noticed():
    u = uniform_at(0, 0, IDS)
    assert correlation(u, 0.9 * uniform_at(0, 1, IDS) + 0.1 * u) > 5


def test_one_ids_noise_along_positions():
    """What one token sees while a text grows."""
    u = torch.cat([uniform_at(42, position, IDS[11:12]) for position in range(3000)])
    ranks = (torch.arange(3000) + 0.5) / 3000
    kolmogorov = (u.sort().values - ranks).abs().max().item() * 3000**0.5
    assert 2 * exp(-2 * kolmogorov**2) > 1e-6
    assert abs(torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1].item()) * 3000**0.5 < 5


def test_a_seed_of_more_than_64_bits_is_our_bug():
    with pytest.raises(AssertionError):
        gumbel(2**63, 0, 4, "cpu")
