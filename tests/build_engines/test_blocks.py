"""Blocks by name, of networks as they are exported."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from build_engines.errors import QuantizationError
from build_engines.quantization.blocks import automatic, blocks_of, layers_of, named_blocks
from engines.bundle import MODEL

STAGES = ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1")


@pytest.fixture(scope="module")
def blocks(float_bundle_folder: Path) -> dict[str, tuple[str, ...]]:
    return blocks_of(onnx.load(float_bundle_folder / MODEL))


def graph(*nodes: tuple[str, str, list[str]]) -> ModelProto:
    """Nodes of (operator, name, inputs); each gives one tensor of its own name."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    made = [
        helper.make_node(kind, [*inputs, "w"] if kind == "Conv" else inputs, [name], name=name)
        for kind, name, inputs in nodes
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4]) for name in ("x", nodes[-1][1])]
    return helper.make_model(helper.make_graph(made, "test", ends[:1], ends[1:], [weight]))


def test_a_trunk_is_its_stem_and_its_residual_blocks(blocks: dict[str, tuple[str, ...]]) -> None:
    assert list(blocks) == [f"{trunk}.{name}" for trunk in ("teacher", "student") for name in ("conv1", *STAGES)]
    assert [len(blocks[f"student.{name}"]) for name in ("conv1", *STAGES)] == [1, 2, 2, 3, 2, 3, 2]


def test_every_convolution_is_in_one_block(blocks: dict[str, tuple[str, ...]]) -> None:
    layers = layers_of(blocks, blocks)
    assert len(layers) == len(set(layers)) == 30


def test_convolutions_outside_of_residual_blocks_stand_alone() -> None:
    model = graph(
        ("Conv", "/method/student/bottleneck/fuse1/fuse1.0/Conv", ["x"]),
        ("Conv", "/method/student/bottleneck/fuse1/fuse1.3/Conv", ["/method/student/bottleneck/fuse1/fuse1.0/Conv"]),
        ("Conv", "/method/student/decoder/layer3/layer3.0/conv1/Conv", ["x"]),
        ("Conv", "/method/student/decoder/layer3/layer3.0/upsample/Conv", ["x"]),
        (
            "Add",
            "/method/student/decoder/layer3/layer3.0/Add",
            [f"/method/student/decoder/layer3/layer3.0/{name}/Conv" for name in ("conv1", "upsample")],
        ),
    )
    assert {name: len(layers) for name, layers in blocks_of(model).items()} == {
        "student.bottleneck.fuse1.0": 1,
        "student.bottleneck.fuse1.3": 1,
        "student.decoder.layer3.0": 2,
    }


def test_a_sum_of_outputs_is_no_residual_block() -> None:
    convolutions = [f"/method/student/students.{number}/conv/Conv" for number in (0, 1)]
    model = graph(*(("Conv", name, ["x"]) for name in convolutions), ("Add", "/method/Add", convolutions))
    assert list(blocks_of(model)) == ["student.students.0.conv", "student.students.1.conv"]


def test_names_as_the_command_line_has_them(blocks: dict[str, tuple[str, ...]]) -> None:
    assert named_blocks("student.layer3.1, teacher.conv1,", blocks) == ["student.layer3.1", "teacher.conv1"]
    assert automatic("auto:3", blocks) == 3
    assert automatic("teacher.conv1", blocks) is None


@pytest.mark.parametrize("asked", ["student.layer9", "student.layer3.1,conv1", "", ","])
def test_unknown_block_lists_the_known(blocks: dict[str, tuple[str, ...]], asked: str) -> None:
    with pytest.raises(QuantizationError, match=r"teacher\.conv1, teacher\.layer1\.0.*student\.layer3\.1\.$"):
        named_blocks(asked, blocks)


@pytest.mark.parametrize("asked", ["auto:", "auto:0", "auto:15", "auto:-1", "auto:two"])
def test_wrong_number_of_blocks(blocks: dict[str, tuple[str, ...]], asked: str) -> None:
    with pytest.raises(QuantizationError, match="from 1 to 14"):
        automatic(asked, blocks)
