"""The precision that a device computes in."""

from typing import Any

import torch


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; emulation is 8 to 50 times slower than single precision.

    A CPU has them with AVX-512 and later.

    Examples:
        >>> computes_in_bf16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    mkldnn: Any = torch.backends.mkldnn
    return device.type == "cpu" and mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
