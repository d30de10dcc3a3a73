"""The HTTP and tokenizer process: who may pass, and what the response says. Also the process that
stands between it and the schedulers, with data parallelism."""
