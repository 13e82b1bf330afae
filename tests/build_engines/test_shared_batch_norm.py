"""Batch normalisation over processes is that of the whole batch."""

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from build_engines.batch_norm import fresh_statistics
from build_engines.processes import gathered, launch
from build_engines.shared_batch_norm import SharedBatchNorm2d, share_statistics

SHARES = (5, 3)
STEPS = 3


def pictures(step: int) -> Tensor:
    """A batch whose images differ, far from zero."""
    generator = torch.Generator().manual_seed(step)
    levels = torch.linspace(-3.0, 9.0, sum(SHARES)).view(-1, 1, 1, 1)
    return torch.randn(sum(SHARES), 4, 6, 5, generator=generator) + levels + 20.0


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6, momentum=0.3), nn.ReLU(inplace=True))
    nn.init.uniform_(built[1].weight, 0.5, 2.0, generator=torch.Generator().manual_seed(1))
    return built.to(memory_format=torch.channels_last)


def run(trained: nn.Sequential, share: slice) -> dict[str, Tensor]:
    """What a network gives for a share of the batches, and what it learns from it."""
    for step in range(STEPS):
        x = pictures(step)[share].requires_grad_()
        y = trained(x)
        weights = torch.arange(sum(SHARES), dtype=torch.float32)[share].view(-1, 1, 1, 1)
        (y.square() * weights).sum().backward()
    with torch.no_grad(), fresh_statistics(fresh := nn.ModuleList([trained[1]])):
        for step in range(STEPS):
            trained(pictures(step)[share])
    state = {name: value.clone() for name, value in fresh[0].named_buffers()}
    gradients = {f"{name}.grad": parameter.grad for name, parameter in trained.named_parameters()}
    return {"y": y.detach().contiguous(), "x.grad": x.grad.contiguous(), **state, **gradients}


def run_share(fabric: Fabric, folder: Path) -> None:
    shared = network()
    share_statistics(shared)
    assert type(shared[1]) is SharedBatchNorm2d
    start = sum(SHARES[: fabric.global_rank])
    found = run(shared, slice(start, start + SHARES[fabric.global_rank]))
    gathered(fabric, None)
    save_file(found, folder / f"{fabric.global_rank}.safetensors")


def test_processes_normalise_by_the_whole_batch(tmp_path: Path) -> None:
    """Output, gradients and running statistics, with shares that differ in size."""
    whole = run(network(), slice(None))
    launch(run_share, "cpu", len(SHARES), tmp_path)
    shares = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(len(SHARES))]
    for name, expected in whole.items():
        parts = [share[name] for share in shares]
        if name in ("y", "x.grad"):
            found = torch.cat(parts)
        elif name.endswith(".grad"):
            found = torch.stack(parts).sum(0)
        else:
            found = parts[0]
            assert torch.equal(parts[0], parts[1]), name
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()), msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_keeps_what_it_knows(training: bool) -> None:
    before = nn.BatchNorm2d(3, eps=1e-3, momentum=0.2).train(training)
    before.running_mean.fill_(4.0)
    network = nn.Sequential(before)
    share_statistics(network)
    after = network[0]
    assert type(after) is SharedBatchNorm2d
    assert (after.eps, after.momentum, after.training) == (1e-3, 0.2, training)
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
