"""What the fuzzer takes for wrong, without a server."""

import pytest

from tests.fire.attacks import CHAT, GENERATE, WELL, Attack, encoded, put
from tests.fire.fuzz import lacks_receipt, names_field

PLAIN = '{"text": "a", "meta_info": {"id": "1"}}'
PROVEN = '{"text": "a", "meta_info": {"llm42": {"output_digest": "0"}}}'
STREAM = 'data: {"text": "a", "meta_info": {}}\n\n'
REFUSED = (
    'data: {"text": "", "output_ids": [], "meta_info": {"finish_reason": {"status_code": 400}}}\n\n'
)
ORDINARY = {"text": "Hi", "sampling_params": {"max_new_tokens": 4}}
BY_CUSTOM = put(ORDINARY, "sampling_params.custom_params.deterministic", True)


@pytest.mark.parametrize(
    ("path", "body", "text", "wrong"),
    [
        (GENERATE, WELL[GENERATE], PLAIN, True),
        (GENERATE, BY_CUSTOM, PLAIN, True),
        (GENERATE, {"text": "Hi", "sampling_params": [BY_CUSTOM["sampling_params"]]}, PLAIN, True),
        (GENERATE, WELL[GENERATE], STREAM, True),
        (GENERATE, WELL[GENERATE], REFUSED, False),
        (GENERATE, WELL[GENERATE], REFUSED.replace('""', '" god"'), True),  # the token of nobody
        (GENERATE, WELL[GENERATE], REFUSED.replace("[]", "[2]"), True),
        (CHAT, WELL[CHAT], '{"choices": [{"message": {"content": "a"}}]}', True),
        (GENERATE, WELL[GENERATE], PROVEN, False),
        (GENERATE, WELL[GENERATE], STREAM + 'data: {"error": {"message": "no"}}\n\n', False),
        (GENERATE, WELL[GENERATE], PLAIN.replace('"id": "1"', '"llm42": {"refuted": {}}'), False),
        (GENERATE, ORDINARY, PLAIN, False),
        ("/v1/messages", WELL[CHAT], PLAIN, False),
    ],
)
def test_an_answer_without_a_receipt_is_wrong_where_one_was_asked_for(path, body, text, wrong):
    assert lacks_receipt(Attack("", path, encoded(body)), text) is wrong


def test_a_refusal_names_the_field_and_not_only_what_holds_it():
    nonce = Attack("", GENERATE, b"", names=("nonce", "sampling_params"), ours=True)
    assert not names_field(nonce, "sampling_params is wrong")
    assert names_field(nonce, "nonce must be a string")
    theirs = Attack("", GENERATE, b"", names=("top_p", "sampling_params"))
    assert names_field(theirs, "sampling_params is wrong")  # it is SGLang's line
    seed = Attack("", CHAT, b"", names=("sampling_seed",), ours=True)
    assert names_field(seed, "seed must be a number") and not names_field(seed, "no")
