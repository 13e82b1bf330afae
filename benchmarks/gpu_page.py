"""The figures of benchmarks/gpu.py as Markdown."""

from typing import Any

_LATENCY = ("method", "precision", "batch", "by", "median", "p95", "GPU alone", "images a second")
_STEADY = ("method", "precision", "agrees", "map error", "runs", "threads", "deviating", "host MB", "device MB", "flat")


def as_markdown(record: dict[str, Any]) -> str:
    """Latency, and what holds over many runs, as tables."""
    version = f" {record['backend_version']}" if record["backend_version"] else ""
    lines = [
        f"{record['machine']}, {record['backend']}{version}, PyTorch {record['libraries']['torch']}. Milliseconds from "
        "pixels to results on the host, medians over repeats; of the GPU alone between CUDA events, without copies.",
        *_head(_LATENCY),
    ]
    for one in record["engines"]:
        for batch, engines in one["latency"].items():
            for name, found in engines.items():
                device = "–" if found["device"] is None else f"{found['device']:.3f}"
                times = (f"{found['median']:.3f}", f"{found['p95']:.3f}", device, f"{found['rate']:.0f}")
                lines.append(_row(one["method"], one["precision"], batch, name, *times))
    lines += _head(_STEADY)
    for one in record["engines"]:
        ran, error = one["soak"], one["agreement"]["map_error"]
        agrees = (_yes(one["agrees"]), "–" if error is None else f"{error:.4f}")
        memory = (f"{side['warm']:.0f} to {side['end']:.0f}" if side else "–" for side in (ran["host"], ran["device"]))
        counts = (str(ran[key]) for key in ("runs", "threads", "deviating"))
        lines.append(_row(one["method"], one["precision"], *agrees, *counts, *memory, _yes(ran["is_flat"])))
    return "\n".join(lines) + "\n"


def _head(columns: tuple[str, ...]) -> list[str]:
    return ["", _row(*columns), _row(*("---" for _ in columns))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _yes(holds: bool) -> str:
    return "yes" if holds else "**no**"
