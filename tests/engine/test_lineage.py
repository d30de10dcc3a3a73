"""Under which weights the tokens of a request were drawn. No server."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from llm42_sglang.engine.loop.lineage import Lineage

# Weights, and how many tokens are drawn under them.
runs = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1)


@given(runs)
def test_segments_tell_the_weights_of_every_token(runs):
    lineage, drawn = Lineage(runs[0][0], "mine"), ""
    for fingerprint, tokens in runs:
        lineage.follow(fingerprint, len(drawn))
        drawn += fingerprint * tokens
        assert lineage.cache_key == f"llm42:{fingerprint}:mine"
    assert lineage.segments(len(drawn)) == tuple((f, len([*same])) for f, same in groupby(drawn))
    assert lineage.past_tokens <= len(drawn)
