"""Is an answer the one that was recorded? Suites, golden files, conditions, verdicts.

Parsing, I/O and judging apart:
- `connection`   HTTP to a server, streams timed
- `suite`        cases: what is asked, and how to sample; YAML or JSONL
- `output`       what an endpoint answered, as far as it is compared, and the first difference
- `wire`         bodies and answers of the native and the OpenAI API
- `endpoint`     a server, and asking it
- `conditions`   the circumstances under which every case is asked again
- `golden`       the file of recorded outputs
- `judge`        PASSED, FAILED, UNKNOWN; and a check's answers as the new recorded ones
- `replay`       whether a receipt is authentic
- `differences`  what two fingerprints differ in, by name
- `probe`        how far any endpoint is from deterministic
- `junit`        the verdicts as JUnit XML
- `documents`    reading files, their mistakes in one line
- `prompts`      what to ask when the question does not matter
"""
