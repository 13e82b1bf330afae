"""How far a quantized engine is from the float32 one."""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from scipy.stats import spearmanr

from build_engines.part_classes import run_all
from build_engines.split_images import SplitImages
from engines.backends import RawResult, open_backend
from engines.bundle import Network


def agreement(
    floating: ModelProto, graph: Network, images: SplitImages, held_out: dict[str, RawResult], folder: Path
) -> dict[str, float]:
    """How the written engine differs from the float32 one on held-out good images."""
    path = folder / "reference.onnx"
    onnx.save(floating, path)
    reference = open_backend(Network(path, "fp32", graph.input, graph.outputs), "openvino")
    expected = {part: run_all(reference, pixels, f"FP32 scores of {part}") for part, pixels in images.held_out.items()}
    size = path.stat().st_size
    path.unlink()
    orders = [spearmanr(expected[part].scores, held_out[part].scores).statistic for part in held_out]
    ratios = np.concatenate([held_out[part].scores / np.maximum(expected[part].scores, 1e-12) for part in held_out])
    maps, wanted = (np.concatenate([found[part].maps for part in held_out]) for found in (held_out, expected))
    return {
        "score_order_spearman": float(np.nan_to_num(np.mean(orders))),
        "score_ratio_median": float(np.median(ratios)),
        "map_error_relative": float(np.abs(maps - wanted).mean() / wanted.mean()),
        "size_ratio": graph.path.stat().st_size / size,
    }
