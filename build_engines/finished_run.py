"""A finished run, opened once: its images, its float graph and what calibration saw, for any number of bundles."""

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from safetensors.torch import load_file

from build_engines import run
from build_engines.batches import TrainingBatches
from build_engines.export import Exported, to_onnx
from build_engines.methods.base import Method
from build_engines.networks.inspection import InspectionNetwork
from build_engines.part_classes import run_all
from build_engines.quantization import equalization, qdq
from build_engines.quantization.calibration import channel_ranges, observe, scales_of
from build_engines.quantization.calibration_images import calibration_images
from build_engines.quantization.fine_tuning import fine_tuned
from build_engines.quantization.histogram import Histogram
from build_engines.quantization.settings import QuantizeSettings
from build_engines.quantization.torch_graph import Rounding
from build_engines.split_images import SplitImages
from build_engines.training import method_of
from engines.backends import Backend, RawResult, open_backend
from engines.bundle import Network, Precision
from engines.files import sha256_of


@dataclass(frozen=True)
class IntegerGraph:
    """A graph with Q/DQ, where they are, and the scales of activations."""

    model: ModelProto
    placement: qdq.Placement
    scales: dict[str, np.float32]


@dataclass(frozen=True)
class Calibration:
    """What `images` calibration images drove the float graph to; the graph is equalized where that was asked."""

    model: ModelProto
    seen: dict[str, Histogram]
    images: int

    def quantized(self, settings: QuantizeSettings, keep_float: Collection[str] = ()) -> IntegerGraph:
        """The graph in integers, but for the convolutions named in `keep_float`."""
        return self.integers(self.model, self.rounding(settings, keep_float))

    def rounding(self, settings: QuantizeSettings, keep_float: Collection[str] = ()) -> Rounding:
        """What integers will do to the graph's numbers."""
        placement = qdq.place(self.model, keep_float)
        seen = {name: self.seen[name] for name in placement.tensors}
        scales = scales_of(seen, settings.calibrator, settings.activation_bits)
        return Rounding(placement, scales, settings.weight_bits, settings.activation_bits)

    @staticmethod
    def integers(model: ModelProto, rounding: Rounding) -> IntegerGraph:
        """A float graph of the same tensors in integers."""
        written = qdq.insert(model, rounding.placement, rounding.scales, rounding.weight_bits, rounding.activation_bits)
        return IntegerGraph(written, rounding.placement, dict(rounding.scales))


class FinishedRun:
    """A finished run. What a bundle needs of it is made when it is first asked for, and kept.

    Raises RunError where the run is missing or unfinished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = run.load_finished(folder)
        self._calibration: tuple[tuple[object, ...], Calibration] | None = None
        self._floating: tuple[int, ModelProto] | None = None

    @cached_property
    def images(self) -> SplitImages:
        """Raises DataError where they are gone, changed or unreadable."""
        return SplitImages.read(self.record)

    @cached_property
    def method(self) -> Method:
        """Teacher and trained student. Raises WeightsError or RunError where the teacher's file is gone or another."""
        method = method_of(self.record)
        method.student.load_state_dict(load_file(self.folder / run.STUDENT))
        return method

    @cached_property
    def exported(self) -> Exported:
        """See `to_onnx`."""
        return to_onnx(InspectionNetwork(self.method), self.record.settings.input_size)

    @cached_property
    def reference(self) -> dict[str, RawResult]:
        """What the float32 engine gives for the held-out images, by class."""
        with self.engine(self.exported.model) as backend:
            return {
                part: run_all(backend, pixels, f"FP32 scores of {part}")
                for part, pixels in self.images.held_out.items()
            }

    def floating(self, epochs: int) -> ModelProto:
        """The float graph, its student fine-tuned for so many epochs; the last answer is kept."""
        if not epochs:
            return self.exported.model
        if self._floating is None or self._floating[0] != epochs:
            self._floating = epochs, self.fine_tuned(self.exported.model, epochs, {"mode": "float"})
        return self._floating[1]

    def fine_tuned(
        self, model: ModelProto, epochs: int, settings: Mapping[str, object], rounding: Rounding | None = None
    ) -> ModelProto:
        """A copy of the float graph, or of an equalized one, with a fine-tuned student; see `fine_tuning`."""
        known = {**settings, "student": sha256_of(self.folder / run.STUDENT)}
        images = self.images.for_network()
        batches = TrainingBatches(images.pixels, np.flatnonzero(~images.held_out), self.record.settings)
        return fine_tuned(self.exported, model, self.method, batches, epochs, self.folder, known, rounding)

    def network(self, path: Path, precision: Precision) -> Network:
        """A graph made of this run's, as a backend takes it."""
        return Network(path, precision, self.exported.input, self.exported.outputs, self.record.settings.grid)

    @contextmanager
    def engine(self, model: ModelProto, precision: Precision = "fp32") -> Iterator[Backend]:
        """A graph on OpenVINO, while the block lasts."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            yield open_backend(self.network(path, precision), "openvino")

    def calibration(self, settings: QuantizeSettings) -> Calibration:
        """Run the calibration images that the settings ask for; the last answer is kept.

        Raises DataError where there are too few.
        """
        asked = (settings.calibration, settings.images, settings.equalization, settings.control_epochs)
        if self._calibration is None or self._calibration[0] != asked:
            self._calibration = None
            self._calibration = (asked, self._calibrate(settings))
        return self._calibration[1]

    def _calibrate(self, settings: QuantizeSettings) -> Calibration:
        pictures = calibration_images(settings.calibration, settings.images, self.images, self.record.settings.seed)
        model = self.floating(settings.control_epochs)
        tensors = qdq.place(model).tensors
        if settings.equalization:
            model = equalization.equalize(model, channel_ranges(model, tensors, pictures), settings.equalization)
        return Calibration(model, observe(model, tensors, pictures), len(pictures))
