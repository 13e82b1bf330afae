"""Every method in FP16 and INT8 through TensorRT-RTX on an x86 machine with a GPU, beside PyTorch on the same GPU.

    python benchmarks/gpu.py OUT [--bundle BUNDLE ...] [--data DATA] [-- options of build-engines train]

Without bundles it trains small students of all methods on synthetic parts, or on DATA, in OUT, and quantizes them:
speed does not depend on how good they are. What OUT holds already is used again. For each bundle it

- compiles a plan;
- compares map, score and embedding of the golden picture with the CPU backend's;
- times the engine in turn with PyTorch FP32 eager and torch.compile FP16: medians over repeats;
- runs it on two worker threads, on the golden picture in its eight orientations, watching scores and memory;

and writes OUT/gpu.json and OUT/gpu.md. Interrupt it and call it again to go on. Exit code 1 where an engine disagrees
or memory grows, 2 where something is missing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_page import as_markdown
from gpu_prepare import build, prepared
from gpu_soak import soak
from gpu_timing import in_turn
from gpu_torch import KINDS, TorchNetwork
from numpy.typing import NDArray

from build_engines.benchmark import cpu_name
from build_engines.commands.options import ArgumentError
from build_engines.libraries import versions
from build_engines.methods import METHODS
from engines import bundle as bundles
from engines.backends import open_backend
from engines.backends.tensorrt import open_tensorrt, why_unusable
from engines.backends.tensorrt_library import Library
from engines.backends.tensorrt_runner import TensorRtOptions
from engines.bundle import Bundle
from engines.errors import UnispectError
from engines.files import write_atomic
from engines.golden import check_agreement, golden_pixels

PLANNED = ("tensorrt", "tensorrt_rtx")
MISSING = 2
DISAGREES = 1


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, and give the exit code."""
    own, options = _split(list(arguments))
    asked = _parser().parse_args(own)
    missing = what_is_missing(asked.device, asked.backend)
    if missing:
        print(missing, file=sys.stderr)
        return MISSING
    try:
        folders = asked.bundle or prepared(asked.out, asked.data, asked.methods.split(","), options)
        found = [_known_or_measured(bundles.load(folder), asked) for folder in folders]
    except UnispectError as error:
        print(error, file=sys.stderr)
        return MISSING
    record = {
        "machine": machine(torch.device(asked.device)),
        "backend": asked.backend,
        "backend_version": Library(asked.backend).version if asked.backend in PLANNED else None,
        "libraries": versions(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "engines": found,
    }
    write_atomic(asked.out / "gpu.json", (json.dumps(record, indent=1) + "\n").encode())
    page = as_markdown(record)
    write_atomic(asked.out / "gpu.md", page.encode())
    print(page)
    good = all(one["agrees"] and one["soak"]["is_flat"] and not one["soak"]["deviating"] for one in found)
    return 0 if good else DISAGREES


def what_is_missing(device: str, backend: str) -> str | None:
    """One sentence; None where all is there."""
    if device == "cuda" and not torch.cuda.is_available():
        return (
            f"This machine has no NVIDIA GPU that PyTorch {torch.__version__} can use; run it on one that has, "
            "with PyTorch for CUDA, or exercise the code with --backend openvino --device cpu."
        )
    reason = why_unusable(backend) if backend in PLANNED else None
    return f"{backend} cannot be used here: {reason}; install what is missing." if reason else None


def measured(bundle: Bundle, asked: argparse.Namespace) -> dict[str, Any]:
    """All figures of a bundle.

    Raises ArgumentError where it cuts images into tiles, BackendError where an engine fails.
    """
    if bundle.manifest.grid is not None:
        raise ArgumentError(f"{bundle.folder} cuts images into tiles, which is not measured here; give another bundle.")
    largest = max(asked.batches)
    if asked.backend in PLANNED:
        build("compile", bundle.folder, "--backend", asked.backend, "--max-batch", largest)
    device = torch.device(asked.device)
    images = orientations(bundle)
    backend = open_backend(bundle.network, asked.backend)
    own = {asked.backend: backend}
    try:
        if asked.backend in PLANNED:
            own[f"{asked.backend}, CUDA graphs"] = open_tensorrt(
                bundle.network, asked.backend, None, TensorRtOptions(cuda_graphs=True)
            )
        agreement = check_agreement(bundle, backend, machine(device), largest)
        expected = np.concatenate([backend.run(image[None]).scores for image in images])
        engines = own | {kind: TorchNetwork(bundle, kind, device) for kind in KINDS}
        latency = {}
        for batch in asked.batches:
            pictures = np.resize(images, (batch, *images.shape[1:]))
            found = in_turn(engines, pictures, asked.repeats, asked.calls)
            latency[str(batch)] = {name: asdict(figures) for name, figures in found.items()}
        figures = backend.on_device(images[:1])
    finally:
        for engine in own.values():
            engine.close()
    ran = soak(
        lambda: open_backend(bundle.network, asked.backend),
        images,
        expected,
        asked.runs,
        asked.threads,
        _device_bytes if device.type == "cuda" else None,
    )
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "method": manifest.method,
        "precision": manifest.precision,
        "image_size": manifest.image_size,
        "teacher": manifest.teacher.architecture,
        "agrees": agreement.holds,
        "agreement": agreement.model_dump(mode="json"),
        "engine_device_mb": figures.memory_bytes / 1e6 if figures else None,
        "latency": latency,
        "soak": asdict(ran),
    }


def orientations(bundle: Bundle) -> NDArray[np.uint8]:
    """The golden picture turned and mirrored, uint8 [8, H, W, 3]."""
    (pixels,) = golden_pixels(bundle)
    return np.stack([np.rot90(side, turns) for side in (pixels, pixels[:, ::-1]) for turns in range(4)])


def machine(device: torch.device) -> str:
    """Processor, and GPU with its compute capability."""
    if device.type == "cpu":
        return cpu_name()
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name} (sm_{properties.major}{properties.minor}), CUDA {torch.version.cuda}, {cpu_name()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", type=Path, action="append", help="measure this one; may be repeated")
    parser.add_argument("--data", type=Path, help="parts to train on; synthetic ones when not given")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--runs", type=int, default=10_000, help="on all threads together")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=200, help="timed calls a repeat")
    parser.add_argument("--batches", type=lambda text: [int(size) for size in text.split(",")], default=[1, 8])
    parser.add_argument("--backend", default="tensorrt_rtx", help="openvino or onnxruntime exercise this without a GPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where PyTorch computes")
    return parser


def _known_or_measured(bundle: Bundle, asked: argparse.Namespace) -> dict[str, Any]:
    """What an interrupted call with the same arguments left of a bundle is not measured again."""
    keys = ("backend", "device", "runs", "threads", "repeats", "calls", "batches")
    question = {"digest": bundle.manifest.digest, **{key: getattr(asked, key) for key in keys}}
    path = asked.out / "figures" / f"{bundle.folder.resolve().name}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("question") != question:
        known = {"question": question, **measured(bundle, asked)}
        write_atomic(path, (json.dumps(known, indent=1) + "\n").encode())
    return dict(known)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _device_bytes() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
