"""Mixed precision in training: 16-bit floats where the device computes in them."""

import torch
from torch.amp.grad_scaler import GradScaler


def mixed_precision(device: torch.device, allowed: bool = True) -> torch.autocast:
    """Autocast to `half_type`; does nothing where there is none or it is not allowed."""
    half = half_type(device) if allowed else None
    return torch.autocast(device.type, half, enabled=half is not None)


def gradient_scaler(device: torch.device, allowed: bool = True) -> GradScaler:
    """Keeps small gradients above fp16's least number (Micikevicius et al. 2018, arXiv 1710.03740).

    It leaves everything as it is where training does not compute in fp16; bf16 has float32's range.
    """
    return GradScaler(device.type, enabled=allowed and half_type(device) is torch.float16)


def half_type(device: torch.device) -> torch.dtype | None:
    """bf16, else fp16 on a GPU; None where a CPU would only emulate it, slower than float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else None


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
