"""The client: does a server still give the answers that were recorded?

Parsing, I/O and judging are apart:
- `connection`   sends HTTP requests to a server and times streams
- `suite`        reads cases, in YAML or JSONL: what to ask, and how to sample
- `output`       holds what is compared of an answer, and finds the first difference of two
- `wire`         writes bodies and reads answers of the native and the OpenAI API
- `endpoint`     finds out what a server speaks, and asks it
- `conditions`   asks every case again, alone, in load, and so on
- `golden`       reads and writes the file of recorded outputs
- `judge`        gives the verdicts PASSED, FAILED and UNKNOWN, and the new golden file
- `replay`       finds out whether a receipt is authentic
- `differences`  names what two fingerprints differ in
- `probe`        measures how far an endpoint is from deterministic
- `junit`        writes the verdicts as JUnit XML
- `documents`    reads files; a mistake in one is a message of one line
- `prompts`      has questions for when the question does not matter
"""
