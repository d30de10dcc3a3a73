"""The scheduler searches for `stop_regex` with RE2, in place of `re`.

`re` backtracks: a pattern such as (a+)+b takes twice as long with every letter, and the scheduler
searches at every token. Patterns that RE2 does not know are refused where requests come in. This
module stands in for `re` in SGLang's module. Req._check_str_based_finish and
Req._locate_str_stop_finished_len use `search` and `error` of it, and nothing else.
"""

import re
import sys

from sglang.srt.managers import schedule_batch

from llm42_sglang.engine.errors import SeamError
from llm42_sglang.engine.seams.check import REMEDY
from llm42_sglang.frontend.patterns import error, search  # noqa: F401


def match_in_linear_time() -> None:
    """Replace `re` in this process. Raises SeamError if SGLang searches with something else."""
    ours = sys.modules[__name__]
    if getattr(schedule_batch, "re", None) not in (re, ours):
        raise SeamError(f"schedule_batch of SGLang no longer searches stop_regex by re. {REMEDY}")
    schedule_batch.re = ours
