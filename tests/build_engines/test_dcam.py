"""DCAM: losses against plain formulas, attention in training only."""

import pytest
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional

from build_engines.export import require_absent, to_onnx
from build_engines.methods.dcam import Dcam, DcamOptions
from build_engines.networks.attention import ChannelAttention, SpatialAttention
from build_engines.networks.inspection import InspectionNetwork
from build_engines.networks.resnet import build_trunk
from engines.errors import GraphError

ARCHITECTURE = "resnet18_half"


def built(**options: object) -> Dcam:
    chosen = DcamOptions.model_validate(options)
    return Dcam.build(build_trunk(ARCHITECTURE, seed=1), ARCHITECTURE, chosen, 2).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_channel_attention_is_cbams() -> None:
    torch.manual_seed(0)
    attention, x = ChannelAttention(16), torch.randn(2, 16, 5, 5)
    average = attention.mlp(x.flatten(2).mean(2))
    largest = attention.mlp(x.flatten(2).max(2).values)
    torch.testing.assert_close(attention(x), x * (average + largest).sigmoid()[:, :, None, None])


def test_spatial_attention_weighs_locations_alike_over_channels() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 4, 9, 9) + 0.5
    weights = SpatialAttention()(x) / x
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert 0 < weights.min().item() < weights.max().item() < 1


@pytest.mark.parametrize("kind", ["channel", "spatial", "both"])
def test_every_kind_of_attention_trains(kind: str, images: Tensor) -> None:
    method = built(attention=kind).train()
    method.loss(images, method.targets(images)).backward()
    gradients = [parameter.grad for parameter in method.student.attention.parameters()]
    assert gradients
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_map_is_the_sum_of_plain_features_distances(images: Tensor) -> None:
    method = built(map="paper")
    with torch.no_grad():
        maps, scores, _ = method(images)
        pairs = zip(method.teacher(images), method.student.trunk(images), strict=True)
        distances = [1 - functional.cosine_similarity(t, s, dim=1)[:, None] for t, s in pairs]
    expected = sum(functional.interpolate(one, (16, 16), mode="bilinear") for one in distances).squeeze(1)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, expected.amax((1, 2)), rtol=1e-4, atol=1e-5)


def test_the_exported_graph_holds_no_attention() -> None:
    exported = to_onnx(InspectionNetwork(built(attention="both")), 64)
    kinds = {node.op_type for node in exported.model.graph.node}
    assert not kinds & {"Sigmoid", "Gemm", "MatMul"}
    assert not any("attention" in node.name for node in exported.model.graph.node)


def test_a_graph_with_attention_is_refused() -> None:
    node = helper.make_node("Sigmoid", ["x"], ["y"], name="/method/student/attention.0/Sigmoid")
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    with pytest.raises(GraphError, match=r"attention\.0/Sigmoid.* belongs to training alone"):
        require_absent(model, Dcam.training_only)


def test_losses_are_the_papers_and_the_maps_own(images: Tensor) -> None:
    with torch.no_grad():
        method = built(temperature=0.5, location_weight=3.0)
        targets = method.targets(images)
        attended = method.student.attend(method.imitate(images, targets))
        expected = torch.zeros(())
        for t, s in zip(targets, attended, strict=True):
            p, q = (functional.softmax(side.flatten(2) / 0.5, dim=2) for side in (t, s))
            expected = expected + (p * (p.log() - q.log())).sum(2).mean()
            expected = expected + 1 - functional.cosine_similarity(t.flatten(2), s.flatten(2), dim=2).mean()
            expected = expected + 3.0 * (1 - functional.cosine_similarity(t, s, dim=1).mean())
        torch.testing.assert_close(method.loss(images, targets), expected, rtol=1e-4, atol=1e-5)
