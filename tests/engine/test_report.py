"""What schedulers report with the answer to a weight update. No server."""

from hypothesis import given
from hypothesis import strategies as st

from llm42_sglang.engine.weights.report import Report, reports_in

texts = st.text() | st.just('llm42: {"fingerprint": "x", "weights": "y", "weight_version": "z"}')
reports = st.builds(Report, texts, texts, texts, st.none() | texts)


@given(st.lists(st.tuples(texts, reports), max_size=3))
def test_the_front_process_reads_what_the_replicas_have_reported(told):
    """Whatever SGLang's own messages say; it joins those of the replicas."""
    message = " | ".join(report.added_to(text) for text, report in told)
    assert [*reports_in(message)] == [report for _, report in told]
