"""Knowledge-distillation methods: network, loss and anomaly map of each, as in its paper."""

from collections.abc import Mapping

from pydantic import JsonValue

from build_engines.methods.base import Method
from build_engines.methods.dcam import Dcam
from build_engines.methods.reverse_distillation import ReverseDistillation
from build_engines.methods.stfpm import Stfpm
from build_engines.methods.uninformed_students import UninformedStudents
from build_engines.networks.resnet import ResNetTrunk

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (Stfpm, ReverseDistillation, Dcam, UninformedStudents)
}


def build_method(
    name: str, teacher: ResNetTrunk, architecture: str, options: Mapping[str, JsonValue], seed: int
) -> Method:
    """A method with an untrained student; `options` are checked already (`Method.build` says the rest)."""
    method = METHODS[name]
    return method.build(teacher, architecture, method.options.model_validate(options), seed)
