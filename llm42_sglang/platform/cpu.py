"""The platform class: SGLang's CPU device operations without its CPU kernels."""

import torch
from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform


class PlainCpuPlatform(CpuDeviceMixin, SRTPlatform):
    """Torch-native kernels only, so any host that runs the torch wheel will do."""

    _enum = PlatformEnum.OOT

    def get_device(self, device_id: int = 0) -> str:
        """A name, as DeviceMixin declares it: SGLang takes it for its `--device`."""
        return "cpu"

    def apply_server_args_defaults(self, server_args) -> None:
        """What a host with few cores wants, wherever the user has not said otherwise."""
        # An idle scheduler that polls would take a core away from the model.
        server_args.sleep_on_idle = True
        if server_args.attention_backend == "intel_amx":  # SGLang's default for every CPU
            server_args.attention_backend = self.get_default_attention_backend()

    def get_default_attention_backend(self) -> str:
        """Ours; `--attention-backend torch_native` selects SGLang's."""
        return "llm42_cpu"

    def init_backend(self) -> None:
        """In each worker, before the attention backend is made."""
        from llm42_sglang.platform import attention

        attention.register()

    def post_load_model(self, model: torch.nn.Module) -> None:
        """Switch the loaded model's linears to mixed precision, by `platform.linear`'s rule."""
        # Here, not above: SGLang loads this class before its own layers can be imported.
        from llm42_sglang.platform import linear

        if linear.mixed_precision_wanted():
            linear.use_mixed_precision(model)
