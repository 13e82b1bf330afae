"""What an engine is to be measured by: nearest-neighbour search over the same teacher's patch features.

    python benchmarks/nearest_neighbour.py DATA BUNDLE --teacher-weights FILE [--patches 20000] [--repeats 5]

No training: each class keeps the teacher's features of all patches of its good training pictures, and a picture's
score is the largest distance of one of its patches to the nearest kept one (PatchCore's first half, Roth et al. 2022,
arXiv 2106.08265). Prints image AUROC per class, and the time a picture takes beside the bundle's engine, in turn.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from build_engines.data.folder import find_parts, find_tests
from build_engines.networks.normalize import Normalize
from build_engines.networks.weights import load_teacher
from engines import bundle as bundles
from engines.detector import Detector
from engines.images import decode

GRID = 32


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--teacher-weights")
    parser.add_argument("--patches", type=int, help="kept of each class, drawn at random; all when not given")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    detector = Detector.open(bundles.load(arguments.bundle))
    manifest = detector.bundle.manifest
    trunk = load_teacher(manifest.teacher.architecture, arguments.teacher_weights)[0].eval()
    normalize = Normalize()

    @torch.inference_mode()
    def features(path: Path) -> Tensor:
        pixels = decode(path.read_bytes(), *manifest.image_size).pixels
        return patches_of(trunk(normalize(torch.from_numpy(pixels[None]))))

    aurocs = []
    for part in find_parts(arguments.data):
        bank = torch.cat([features(path) for path in track(part.train, f"{part.name}: features")])
        chosen = torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))[: arguments.patches]
        bank = bank[chosen].contiguous()
        squares = bank.square().sum(1)
        tests = find_tests(arguments.data, [part.name])
        scores = [score(features(test.path), bank, squares) for test in track(tests, f"{part.name}: search")]
        aurocs.append(roc_auc_score([not test.is_good for test in tests], scores))
        print(f"{part.name}: image AUROC {aurocs[-1]:.3f}, {len(bank)} patches of {bank.shape[1]} numbers", flush=True)
    print(f"mean: {np.mean(aurocs):.3f}")

    path = detector.bundle.golden_path
    image = detector.decode(path.read_bytes())
    calls = {"search": lambda: score(features(path), bank, squares), "engine": lambda: detector.infer([image])}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    print(
        f"{medians['search'] * 1000:.1f} ms a picture with one class's patches, the engine "
        f"{medians['engine'] * 1000:.1f} ms: {medians['search'] / medians['engine']:.0f} times as long"
    )


def patches_of(stages: tuple[Tensor, ...]) -> Tensor:
    """A trunk's stages of one picture, averaged over 3 x 3 and laid on one grid, to patches [GRID * GRID, C]."""
    averaged = (functional.avg_pool2d(stage, 3, 1, 1) for stage in stages)
    gridded = [functional.interpolate(stage, size=(GRID, GRID), mode="bilinear") for stage in averaged]
    return torch.cat([stage / stage.norm(dim=1).mean() for stage in gridded], 1)[0].flatten(1).T


def score(patches: Tensor, bank: Tensor, squares: Tensor) -> float:
    """Largest squared distance of a patch to the nearest of the bank."""
    distances = patches.square().sum(1, keepdim=True) + squares - 2 * patches @ bank.T
    return float(distances.min(1).values.max())


if __name__ == "__main__":
    main()
