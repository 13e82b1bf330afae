"""The bundle: one folder with `bundle.json`, the network as ONNX and a golden image, verified whole on loading."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from engines.errors import BundleError, TilingError
from engines.files import sha256_of, write_atomic
from engines.tiling import TileAxis, TileGrid

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
MODEL = "model.onnx"
GOLDEN = "golden.png"

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PART_CLASS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
PartClassName = Annotated[str, Field(pattern=PART_CLASS_PATTERN)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageInput(_Part):
    """The network's one input: uint8 [N, height, width, 3], RGB. N is the only dynamic axis."""

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    color: Literal["RGB"] = "RGB"


class Outputs(_Part):
    """The network's outputs, all float32: maps [N, h, w], scores [N], embeddings [N, C]."""

    maps: str
    scores: str
    embeddings: str
    map_height: int = Field(gt=0)
    map_width: int = Field(gt=0)
    embedding_size: int = Field(gt=0)


class Tiling(_Part):
    """Images larger than the network's input, which then is one of the square tiles that they are cut into.

    Attributes:
        height, width: what images are resized to, in pixels.
        overlap: by how many pixels neighbouring tiles overlap at least.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    overlap: int = Field(ge=0)

    def grid(self, tile_height: int, tile_width: int) -> TileGrid:
        """Where tiles of that size lie. Raises TilingError where they do not fit."""
        return TileGrid(
            TileAxis(self.height, tile_height, self.overlap), TileAxis(self.width, tile_width, self.overlap)
        )


class Review(_Part):
    """Where a person decides: a part whose score is above this threshold, and not above the class's own.

    Attributes:
        rate: the share in (0, 1) of good parts that do not pass at most, those that fail among them.
        threshold: split-conformal, as the class's own.
    """

    rate: float = Field(gt=0, lt=1)
    threshold: Finite


class PartClass(_Part):
    """A part type: how it is recognised and which scores its good parts have.

    Attributes:
        centroid: mean embedding of the training images.
        max_distance: largest Euclidean distance of a held-out good part's embedding from the centroid; beyond it a
            part is unknown.
        good_scores: held-out good scores, ascending; thresholds and p-values come from them.
        false_reject_rate: the rate in (0, 1) that `threshold` promises.
        threshold: split-conformal; a part with a higher score fails.
        pixel_threshold: where regions of the anomaly map end, at most `threshold`.
        review: of a three-state verdict; None where a part passes or fails.
    """

    name: PartClassName
    centroid: list[Finite]
    max_distance: Finite = Field(ge=0)
    good_scores: list[Finite] = Field(min_length=1)
    false_reject_rate: float = Field(gt=0, lt=1)
    threshold: Finite
    pixel_threshold: Finite
    review: Review | None = None

    @property
    def pass_limit(self) -> float:
        """The largest score that passes."""
        return self.threshold if self.review is None else self.review.threshold

    @model_serializer(mode="wrap")
    def _as_before_reviews(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without the field where it is None: a version from before it came refuses fields that it does not know."""
        content: dict[str, object] = handler(self)
        if self.review is None:
            del content["review"]
        return content


class Golden(_Part):
    """An image that every load must score as the builder did: `score` within `tolerance`, relative."""

    file: str
    part_class: PartClassName
    score: Finite
    tolerance: float = Field(gt=0, lt=1)


class Teacher(_Part):
    """The frozen network: architecture, where its weights came from, and their file's digest."""

    architecture: str
    weights: str
    sha256: Digest


class DataFingerprint(_Part):
    """The good images a bundle was made from: digest over names and contents, and images per part class."""

    sha256: Digest
    train: dict[PartClassName, int]
    held_out: dict[PartClassName, int]


class Quantization(_Part):
    """How the INT8 network was made: which tensors are quantized, with which scale.

    Attributes:
        mode: ptq, or qat where the network was fine-tuned with quantization in the loop.
        images: calibration images.
        equalization: strength of cross-layer equalization before quantizing; 0 is none.
        weight_bits, activation_bits: how many bits the integers have.
        simulated: fewer than 8 bits, stored and computed as int8 all the same.
        fine_tuning_epochs: after training, before quantizing.
        float_layers: stay in floating point, with weights stored as half floats.
    """

    mode: Literal["ptq", "qat"]
    calibration: str
    calibrator: str
    images: int = Field(gt=0)
    equalization: float = Field(ge=0, le=1)
    weight_bits: int = Field(default=8, ge=2, le=8)
    activation_bits: int = Field(default=8, ge=2, le=8)
    simulated: bool = False
    fine_tuning_epochs: int = Field(default=0, ge=0)
    activation_scales: dict[str, Finite]
    quantized_layers: list[str]
    float_layers: list[str]


class FileRecord(_Part):
    size: int = Field(ge=0)
    sha256: Digest


class Manifest(_Part):
    """`bundle.json`. `digest` covers every other field, so that an edit by hand is seen."""

    schema_version: Literal[1] = 1
    name: PartClassName
    version: PartClassName
    created: datetime
    method: str
    precision: Precision
    input: ImageInput
    outputs: Outputs
    tiling: Tiling | None = None
    part_classes: list[PartClass] = Field(min_length=1)
    golden: Golden
    teacher: Teacher
    training: dict[str, JsonValue]
    data: DataFingerprint
    quantization: Quantization | None = None
    metrics: dict[str, JsonValue] = {}
    libraries: dict[str, str]
    files: dict[str, FileRecord]
    digest: Digest | Literal[""] = ""

    @property
    def grid(self) -> TileGrid | None:
        """How images are cut into tiles; None where the network takes them whole."""
        return self.tiling.grid(self.input.height, self.input.width) if self.tiling else None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that images are resized to."""
        size = self.tiling or self.input
        return size.height, size.width

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of an image's anomaly map."""
        cells = (self.outputs.map_height, self.outputs.map_width)
        return self.grid.scaled(*cells).size if self.grid else cells

    def sealed(self) -> "Manifest":
        """The same manifest with its digest."""
        return self.model_copy(update={"digest": _digest(json.loads(self.model_dump_json()))})


@dataclass(frozen=True, slots=True)
class Network:
    """What a backend needs to run a network.

    Attributes:
        path: the ONNX file.
        input, outputs: what goes in and out, by name.
        grid: how images are cut into tiles of the input's size; None where they go in whole.
        sha256: of the file, where it was verified; None where nobody knows it yet.
    """

    path: Path
    precision: Precision
    input: ImageInput
    outputs: Outputs
    grid: TileGrid | None = None
    sha256: str | None = None


class Bundle(BaseModel):
    """A verified manifest and the folder it stands in."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    manifest: Manifest

    @property
    def network(self) -> Network:
        manifest = self.manifest
        return Network(
            self.folder / MODEL,
            manifest.precision,
            manifest.input,
            manifest.outputs,
            manifest.grid,
            manifest.files[MODEL].sha256,
        )

    @property
    def golden_path(self) -> Path:
        return self.folder / self.manifest.golden.file


def is_name(text: str) -> bool:
    """Whether `text` may name an engine, a version or a part class."""
    return re.fullmatch(PART_CLASS_PATTERN, text) is not None


def load(folder: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: missing, of a newer schema, malformed, altered, or a file that differs from its record.
    """
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        _check_file(folder, name, record)
    return Bundle(folder=folder, manifest=manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read and verify a bundle's manifest and no other file: to show what it says, not to use the bundle.

    Raises:
        BundleError: missing, of a newer schema, malformed, or altered.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"There is no bundle in {folder}; give a folder that holds {MANIFEST}.") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error}); build or copy the bundle again.") from error
    schema = raw.get("schema_version") if isinstance(raw, dict) else None
    if schema != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {schema!r} and this unispect reads version {SCHEMA_VERSION}; "
            "update unispect or build the bundle again."
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path} is not valid at {where}: {first['msg']}; build or copy the bundle again.") from error
    if manifest.digest != _digest(raw):
        raise BundleError(f"{path} was altered after it was built; build or copy the bundle again.")
    _check_consistency(path, manifest)
    return manifest


def save_manifest(folder: Path, manifest: Manifest) -> Bundle:
    """Seal the manifest over the files that are in `folder` and write it there atomically."""
    recorded = manifest.model_copy(update={"files": _record_files(folder, (MODEL, manifest.golden.file))}).sealed()
    write_atomic(folder / MANIFEST, (recorded.model_dump_json(indent=1) + "\n").encode())
    return Bundle(folder=folder, manifest=recorded)


def _digest(content: Mapping[str, object]) -> str:
    """Over what the file holds, and not what this version makes of it: a field that came later changes no bundle."""
    sealed = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def _record_files(folder: Path, names: tuple[str, ...]) -> Mapping[str, FileRecord]:
    return {name: FileRecord(size=(folder / name).stat().st_size, sha256=sha256_of(folder / name)) for name in names}


def _check_consistency(path: Path, manifest: Manifest) -> None:
    names = [part.name for part in manifest.part_classes]
    size = manifest.outputs.embedding_size
    wrong = next((part.name for part in manifest.part_classes if len(part.centroid) != size), None)
    if len(set(names)) != len(names):
        raise BundleError(f"{path} lists a part class twice; build or copy the bundle again.")
    if wrong is not None:
        raise BundleError(f"{path} has a centroid of class {wrong} that is not of size {size}; build the bundle again.")
    crossed = next((part for part in manifest.part_classes if part.pass_limit > part.threshold), None)
    if crossed is not None:
        raise BundleError(f"{path} sends parts of class {crossed.name} to review that fail; build the bundle again.")
    try:
        _ = manifest.map_size
    except TilingError as error:
        raise BundleError(f"{path} cannot be used: {error}") from error
    if not {MODEL, manifest.golden.file} <= manifest.files.keys() or manifest.golden.part_class not in names:
        raise BundleError(f"{path} does not record {MODEL} and its golden image; build or copy the bundle again.")


def _check_file(folder: Path, name: str, record: FileRecord) -> None:
    if Path(name).name != name:
        raise BundleError(f"{folder / MANIFEST} names a file outside its folder, {name!r}; do not use this bundle.")
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{path} is missing; build or copy the bundle again.")
    if path.stat().st_size != record.size or sha256_of(path) != record.sha256:
        raise BundleError(f"{path} was altered after it was built; build or copy the bundle again.")
