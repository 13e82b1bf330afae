"""Mixed precision in training: bf16 where the device computes in it."""

import torch


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to bf16; does nothing where the device would only emulate it, slower than float32."""
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
