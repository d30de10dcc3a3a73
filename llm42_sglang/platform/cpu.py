"""The platform class: SGLang's CPU device operations without its CPU kernels."""

import torch
from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform


class PlainCpuPlatform(CpuDeviceMixin, SRTPlatform):
    """Uses torch's own kernels only, so it runs wherever the torch wheel does."""

    _enum = PlatformEnum.OOT

    def get_device(self, device_id: int = 0) -> str:
        """Return the device's name, which SGLang takes for its `--device`."""
        return "cpu"

    def apply_server_args_defaults(self, server_args) -> None:
        """Set the defaults for a host with few cores, where the user has not set another value."""
        # Otherwise an idle scheduler polls, and takes a core away from the model.
        server_args.sleep_on_idle = True
        if server_args.attention_backend == "intel_amx":  # SGLang's default for every CPU
            server_args.attention_backend = self.get_default_attention_backend()

    def get_default_attention_backend(self) -> str:
        """Return our backend. SGLang's own is `--attention-backend torch_native`."""
        return "llm42_cpu"

    def init_backend(self) -> None:
        """Register our attention backend. SGLang calls this in each worker, before it makes one."""
        from llm42_sglang.platform import attention

        attention.register()

    def post_load_model(self, model: torch.nn.Module) -> None:
        """Switch the loaded model's linears to mixed precision, if `platform.linear` says so.

        On a host with tiles (AMX) they stay in bf16, and canonical passes use one kernel of them.
        Triton's kernels that the model would call are replaced.
        """
        # Imported here, because SGLang loads this class before its own layers can be imported.
        from llm42_sglang.platform import elementwise, linear, tiles

        elementwise.use_torch()
        if linear.mixed_precision_wanted():
            linear.use_mixed_precision(model)
        elif torch.cpu._is_amx_tile_supported():
            tiles.use_one_kernel(model)
