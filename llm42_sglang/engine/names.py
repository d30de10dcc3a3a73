"""Names that cross process boundaries, and the SGLang that all of this is written against."""

PINNED_SGLANG = "0.5.23"

AUDIT_FAILED = (
    "llm42: audit failed: a canonical page came out with other bits when it was run again, so "
    "deterministic service has ended; restart the server"
)
UPDATE_FAILED = (
    "llm42: a weight update failed half way, so the weights are neither the old ones nor the new "
    "ones; deterministic service is off until an update of all weights succeeds"
)
RECHECK_FAILED = (
    "llm42: after a weight update canonical passes gave other bits ({}), so deterministic service "
    "has ended; restart the server"
)
REFUSED_TO_START = 3  # exit status of a scheduler process that refuses to serve

NAMESPACE = "llm42:"  # prefix of the radix-cache keys that only deterministic requests may use
PROBLEM_KEY = "llm42_problem"  # of SGLang's customized_info, while deterministic service is off
RECEIPT_KEY = "llm42"  # of SGLang's customized_info, and of meta_info
INFO_KEY = "llm42"  # of the scheduler's init info: the proof that its hooks are live
REPLICAS_KEY = "llm42_replicas"  # of the data-parallel controller's: every scheduler's proof
