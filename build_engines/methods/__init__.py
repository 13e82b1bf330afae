"""Knowledge-distillation methods: network, loss and anomaly map of each, as in its paper."""

from build_engines.methods.base import Method
from build_engines.methods.stfpm import Stfpm

METHODS: dict[str, type[Method]] = {"stfpm": Stfpm}
