"""The comparison of bits sees what is there; the operators are those of the platform."""

import pytest
import torch

from llm42_sglang.cli.bench import attention_rows, invariance, operators
from llm42_sglang.cli.bench.invariance import examine, grouped, places, row_probe, slot_invariant
from llm42_sglang.cli.bench.operators import RowOperator, row_operators


def operator(run) -> RowOperator:
    return RowOperator("made up", 8, torch.float32, run)


def by_size(x):
    """Row by row, but in another way from 4 rows on."""
    return x * 3 if len(x) >= 4 else x * 2


def by_place(x):
    return x + torch.arange(len(x)).unsqueeze(1)


def by_neighbour(x):
    return x + x.sum(0)


def examined(run):
    made = operator(run)
    found = examine(made.name, {"": row_probe(made)}, 2)
    return found.batch, found.position, slot_invariant(made, 2)


def test_each_kind_of_variance_is_seen():
    assert examined(lambda x: x * 2) == (True, True, True)
    assert examined(by_size) == (False, True, True)
    assert examined(by_place) == (True, False, False)
    assert examined(by_neighbour) == (False, False, False)


def test_a_difference_of_one_bit_is_seen():
    def one_bit(x):
        return x if len(x) < 8 else torch.nextafter(x, torch.full_like(x, 9))

    assert examined(one_bit)[0] is False


def test_shapes_with_the_same_bits_are_grouped():
    found = examine("made up", {"": row_probe(operator(by_size))}, 1)
    assert found.classes == [["1", "2", "3"], ["4", "8", "16", "32", "128"]]
    assert grouped({"a": b"1", "b": b"2", "c": b"1"}) == [["a", "c"], ["b"]]


def test_places():
    assert [places(rows) for rows in (1, 2, 3, 4, 8)] == [[], [1], [1, 2], [1, 2, 3], [1, 4, 7]]


def test_the_linear_is_the_platforms():
    from llm42_sglang.platform.linear import MixedPrecisionLinear

    rounded = next(op for op in row_operators() if op.name == "linear o: rounded")
    layer = torch.nn.Linear(576, 576, bias=False)
    layer.weight.data = operators._weight(576, 576)
    x = torch.randn(4, 576).bfloat16()
    assert torch.equal(rounded.run(x), MixedPrecisionLinear().apply(layer, x))


def test_attention_is_padded_as_the_platforms():
    from llm42_sglang.platform import attention

    assert attention_rows.QUERY_ROWS == attention.QUERY_ROWS
    sizes = range(1, 2000)
    padded = [list(map(module.context_size, sizes)) for module in (attention_rows, attention)]
    assert padded[0] == padded[1]


def test_a_slots_last_row_is_the_probed_one():
    page = attention_rows.extend_page(5, slots=4, slot=2, rows=32)
    expected = attention_rows.extend_row(5, rows=32, place=31).view(9, 64)
    torch.testing.assert_close(page[:, -1], expected, rtol=0.02, atol=0.02)
    assert invariance.slots_agree(lambda trial, slot: torch.tensor([trial]), 2)
    assert not invariance.slots_agree(lambda trial, slot: torch.tensor([slot // 3]), 2)


@pytest.mark.parametrize("row", [attention_rows.decode_row, attention_rows.extend_row])
def test_attention_is_what_softmax_says(row):
    query, key, value = (t.float() for t in attention_rows._probe(5))
    heads = [h // attention_rows.SHARED for h in range(attention_rows.HEADS)]
    scores = torch.einsum("hd,hcd->hc", query, key[heads]) / attention_rows.HEAD_DIM**0.5
    expected = torch.einsum("hc,hcd->hd", scores.softmax(-1), value[heads]).flatten()
    for rows, place in ((1, 0), (3, 2), (128, 64)):
        torch.testing.assert_close(row(5, rows, place).float(), expected, rtol=0.02, atol=0.02)


def test_the_command_restores_torchs_threads(monkeypatch, capsys):
    monkeypatch.setattr(invariance, "findings", lambda trials: [])
    before = torch.get_num_threads()
    invariance.invariance(trials=1, threads=before + 1)
    assert torch.get_num_threads() == before
    assert f"threads {before + 1}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def sglangs():
    """SGLang's own forwards on a plain CPU, [rows, width] -> [rows, ...]."""
    from sglang.srt.layers.activation import SiluAndMul
    from sglang.srt.layers.layernorm import RMSNorm
    from sglang.srt.layers.rotary_embedding.base import RotaryEmbedding

    size, bf16 = operators.HEAD_DIM, torch.bfloat16
    rotary = RotaryEmbedding(size, size, 2 * operators.POSITION, 10_000, True, bf16)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        return rotary.forward_native(torch.full((len(x),), operators.POSITION), x, x)[0]

    return {
        "RMSNorm": RMSNorm(operators.HIDDEN, eps=1e-5).to(bf16).forward_native,
        "rotary": rotate,
        "silu and mul": SiluAndMul().forward_native,
    }


@pytest.mark.parametrize("name", ["RMSNorm", "rotary", "silu and mul"])
def test_an_operator_is_sglangs_to_the_bit(sglangs, name):
    (ours,) = (one for one in row_operators() if one.name == name)
    x = torch.randn(5, ours.width, generator=torch.Generator().manual_seed(0)).to(ours.dtype)
    with torch.no_grad():
        assert torch.equal(ours.run(x), sglangs[name](x))
        assert not torch.equal(ours.run(x), sglangs[name](x.roll(1, 0)))  # the control
