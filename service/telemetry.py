"""What a Jetson's kernel tells of its GPU, clocks, temperatures, throttling and power, for Prometheus.

Reading these sensors often, or within a request, makes latency spikes. So a thread of its own reads them every few
seconds, and a scrape takes what was read last. A machine that is no Jetson has none of the gauges.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PERIOD_SECONDS = 5.0
# L4T R35, then R36.
_GPU_LOADS = ("devices/gpu.0/load", "devices/platform/gpu.0/load")
# The address is the same on Xavier and Orin, the name is not.
_GPU_CLOCKS = "class/devfreq/17000000.g*/cur_freq"
_CPU_CLOCKS = "devices/system/cpu/cpufreq/policy*/scaling_cur_freq"
_ZONES = "devices/virtual/thermal/thermal_zone*"
# Of their kind are fans too, which run without anything being slowed down.
_ALERTS = "devices/virtual/thermal/cooling_device*"
_ALERT = "-throttle-alert"
# Of Orin: how often the supply's voltage or current had the clocks lowered.
_SUPPLY_EVENTS = "class/hwmon/hwmon*/oc*_event_cnt"
_RAILS = "bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
_CHANNELS = (1, 2, 3)
# What a zone says whose part is switched off, in millidegrees.
_SWITCHED_OFF = -256_000
_UNCONNECTED = "NC"


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read at one time; what could not is absent.

    Attributes:
        gpu_load: share of the time that the GPU was busy, 0 to 1.
        clocks: hertz by clock: `gpu`, and `cpu0`, `cpu2` ... after the first core of each cluster.
        temperatures: degrees Celsius by thermal zone.
        power: watts by rail.
        throttled: whether heat holds the clocks down.
        supply_events: how often since the machine's start the supply did.
    """

    gpu_load: float | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    power: Mapping[str, float] = field(default_factory=dict)
    throttled: bool | None = None
    supply_events: float | None = None


def is_jetson(root: Path) -> bool:
    """Whether `root`, a kernel's /sys, shows a Jetson's GPU or power monitor."""
    return any(_matches(root, pattern) for pattern in (*_GPU_LOADS, _GPU_CLOCKS, _RAILS))


def read(root: Path) -> Reading:
    """Read the sensors below `root`, a kernel's /sys. What is absent, refused or unreadable is passed over."""
    loads = [_number(root / path) for path in _GPU_LOADS]
    load = next((load for load in loads if load is not None), None)
    return Reading(
        gpu_load=None if load is None else load / 1000,
        clocks=_clocks(root),
        temperatures=_temperatures(root),
        power=_power(root),
        throttled=_throttled(root),
        supply_events=_supply_events(root),
    )


class Telemetry(Collector):
    """Reads the sensors from time to time, and gives Prometheus what was read last. `start` and `close` once each.

    Args:
        root: the kernel's /sys.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reading = Reading()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._work, name="telemetry", daemon=True)

    def start(self) -> None:
        """Begin to read, in a thread of its own; it ends at once on a machine that is no Jetson."""
        self._reader.start()

    def close(self) -> None:
        """Stop reading; a sensor that does not answer is not waited for."""
        self._closing.set()

    def collect(self) -> Iterator[Metric]:
        reading = self._reading
        if reading.gpu_load is not None:
            yield GaugeMetricFamily("unispect_gpu_load_ratio", "Share of the time the GPU is busy.", reading.gpu_load)
        yield from _family(
            "unispect_clock_hertz", "Clock of the GPU and of the CPU's clusters.", "clock", reading.clocks
        )
        yield from _family(
            "unispect_temperature_celsius", "Temperature by thermal zone of the board.", "zone", reading.temperatures
        )
        yield from _family("unispect_power_watts", "Power drawn by rail of the board.", "rail", reading.power)
        if reading.throttled is not None:
            yield GaugeMetricFamily(
                "unispect_throttled", "1 while heat holds the board's clocks down, else 0.", reading.throttled
            )
        if reading.supply_events is not None:
            yield CounterMetricFamily(
                "unispect_supply_events",
                "How often low voltage or high current had the board's clocks lowered.",
                reading.supply_events,
            )

    def _work(self) -> None:
        if not is_jetson(self._root):
            return
        while not self._closing.is_set():
            self._reading = read(self._root)
            self._closing.wait(_PERIOD_SECONDS)


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[GaugeMetricFamily]:
    if values:
        family = GaugeMetricFamily(name, text, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        yield family


def _clocks(root: Path) -> dict[str, float]:
    clocks = {}
    for path in _matches(root, _GPU_CLOCKS):
        if (hertz := _number(path)) is not None:
            clocks["gpu"] = hertz
    for path in _matches(root, _CPU_CLOCKS):
        if (kilohertz := _number(path)) is not None:
            clocks[f"cpu{path.parent.name.removeprefix('policy')}"] = kilohertz * 1000
    return clocks


def _temperatures(root: Path) -> dict[str, float]:
    temperatures = {}
    for zone in _matches(root, _ZONES):
        name, millidegrees = _text(zone / "type"), _number(zone / "temp")
        if name and millidegrees is not None and millidegrees != _SWITCHED_OFF:
            temperatures[name] = millidegrees / 1000
    return temperatures


def _power(root: Path) -> dict[str, float]:
    power = {}
    for monitor in _matches(root, _RAILS):
        for channel in _CHANNELS:
            rail = _text(monitor / f"in{channel}_label")
            millivolts = _number(monitor / f"in{channel}_input")
            milliamperes = _number(monitor / f"curr{channel}_input")
            if rail and rail != _UNCONNECTED and millivolts is not None and milliamperes is not None:
                power[rail] = millivolts * milliamperes / 1e6
    return power


def _throttled(root: Path) -> bool | None:
    alerts = [device for device in _matches(root, _ALERTS) if (_text(device / "type") or "").endswith(_ALERT)]
    states = [state for device in alerts if (state := _number(device / "cur_state")) is not None]
    return any(states) if states else None


def _supply_events(root: Path) -> float | None:
    counts = [count for path in _matches(root, _SUPPLY_EVENTS) if (count := _number(path)) is not None]
    return sum(counts) if counts else None


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
