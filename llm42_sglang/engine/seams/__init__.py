"""Every SGLang symbol the engine relies on, and the check that they are all as expected.

SGLang's hook registry fails open: a hook on a name that is gone is logged and forgotten. So the
whole table is checked before anything is hooked; one missing or changed seam ends the process.
"""

from llm42_sglang.engine.seams.seam import Seam, check, fingerprint
from llm42_sglang.engine.seams.table import GPU_SEAMS, SEAMS

__all__ = ["GPU_SEAMS", "SEAMS", "Seam", "check", "fingerprint"]
