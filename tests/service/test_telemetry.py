"""A Jetson's sensors in /metrics, from a tree in the form of its kernel's /sys."""

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import telemetry
from service.app import create_app
from service.settings import Settings
from service.telemetry import Reading, is_jetson, read

GPU = "devices/17000000.gv11b"
RAILS = "bus/i2c/drivers/ina3221/7-0040/hwmon/hwmon3"
# The form is the kernel's: per mille, hertz, kilohertz, millidegrees, millivolts and milliamperes.
XAVIER_NX = {
    f"{GPU}/load": "425\n",
    f"{GPU}/devfreq/17000000.gv11b/cur_freq": "1109250000\n",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1420800\n",
    "devices/system/cpu/cpufreq/policy2/scaling_cur_freq": "1190400\n",
    "devices/virtual/thermal/thermal_zone0/type": "CPU-therm\n",
    "devices/virtual/thermal/thermal_zone0/temp": "43500\n",
    "devices/virtual/thermal/thermal_zone1/type": "GPU-therm\n",
    "devices/virtual/thermal/thermal_zone1/temp": "41000\n",
    "devices/virtual/thermal/thermal_zone2/type": "AUX-therm\n",
    "devices/virtual/thermal/thermal_zone2/temp": "-256000\n",
    "devices/virtual/thermal/cooling_device0/type": "pwm-fan\n",
    "devices/virtual/thermal/cooling_device0/cur_state": "3\n",
    "devices/virtual/thermal/cooling_device1/type": "gpu-throttle-alert\n",
    "devices/virtual/thermal/cooling_device1/cur_state": "0\n",
    "class/hwmon/hwmon2/oc1_event_cnt": "0\n",
    "class/hwmon/hwmon2/oc3_event_cnt": "27\n",
    f"{RAILS}/in1_label": "VDD_IN\n",
    f"{RAILS}/in1_input": "5000\n",
    f"{RAILS}/curr1_input": "1480\n",
    f"{RAILS}/in2_label": "VDD_CPU_GPU_CV\n",
    f"{RAILS}/in2_input": "4992\n",
    f"{RAILS}/curr2_input": "500\n",
    f"{RAILS}/in3_label": "VDD_SOC\n",
    f"{RAILS}/in3_input": "4992\n",
    f"{RAILS}/curr3_input": "250\n",
}
READ = Reading(
    gpu_load=0.425,
    clocks={"gpu": 1_109_250_000, "cpu0": 1_420_800_000, "cpu2": 1_190_400_000},
    temperatures={"CPU-therm": 43.5, "GPU-therm": 41.0},
    power={"VDD_IN": 7.4, "VDD_CPU_GPU_CV": 2.496, "VDD_SOC": 1.248},
    throttled=False,
    supply_events=27,
)


@pytest.fixture
def sysfs() -> Iterator[Path]:
    """The tree of a Xavier NX, where any user can come to it."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    write_sysfs(root)
    yield root
    shutil.rmtree(root)


def write_sysfs(root: Path) -> None:
    """Make the tree of a Xavier NX, with an Orin's counters of its supply."""
    for name, text in XAVIER_NX.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "devices/gpu.0").symlink_to(root / GPU)
    (root / "class/devfreq").mkdir(parents=True)
    (root / "class/devfreq/17000000.gv11b").symlink_to(root / GPU / "devfreq/17000000.gv11b")


def test_every_sensor_is_read_in_base_units(sysfs: Path) -> None:
    assert is_jetson(sysfs)
    assert read(sysfs) == READ


def test_what_is_missing_broken_or_refused_is_passed_over(sysfs: Path) -> None:
    (sysfs / GPU / "load").unlink()
    (sysfs / "devices/virtual/thermal/thermal_zone0/temp").write_text("none\n")
    (sysfs / "devices/virtual/thermal/thermal_zone1/type").write_bytes(b"\xff\xfe")
    (sysfs / RAILS / "curr1_input").unlink()
    (sysfs / RAILS / "in2_label").write_text("NC\n")
    (sysfs / RAILS / "in3_input").chmod(0)
    (sysfs / "devices/system/cpu/cpufreq/policy2").chmod(0)
    (sysfs / "devices/virtual/thermal/cooling_device1/cur_state").write_text("?\n")
    shutil.rmtree(sysfs / "class/hwmon")
    with as_another_user():
        reading = read(sysfs)
    assert reading == Reading(clocks={"gpu": 1_109_250_000, "cpu0": 1_420_800_000})


class as_another_user:
    """Root may read everything; `nobody` may not."""

    def __enter__(self) -> None:
        self._user = os.geteuid()
        if self._user == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        os.seteuid(self._user)


def test_an_orin_is_known_by_its_own_paths(tmp_path: Path) -> None:
    orin = {"devices/platform/gpu.0/load": "1000", "class/devfreq/17000000.gpu/cur_freq": "918000000"}
    for name, text in orin.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert is_jetson(tmp_path)
    assert read(tmp_path) == Reading(gpu_load=1.0, clocks={"gpu": 918_000_000})


def test_the_sensors_are_in_the_metrics_and_follow_the_machine(
    bundle_folder: Path, tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "_PERIOD_SECONDS", 0.01)

    async def scenario() -> None:
        async with scraping(bundle_folder, tmp_path, sysfs) as scrape:
            first = {("unispect_gpu_load_ratio", ""): 0.425}
            first |= {("unispect_clock_hertz", name): hertz for name, hertz in READ.clocks.items()}
            first |= {("unispect_temperature_celsius", zone): degrees for zone, degrees in READ.temperatures.items()}
            first |= {("unispect_power_watts", rail): watts for rail, watts in READ.power.items()}
            first |= {("unispect_throttled", ""): 0.0, ("unispect_supply_events_total", ""): 27.0}
            await until(scrape, first)
            (sysfs / GPU / "load").write_text("0\n")
            (sysfs / "devices/virtual/thermal/cooling_device1/cur_state").write_text("1\n")
            await until(scrape, first | {("unispect_gpu_load_ratio", ""): 0.0, ("unispect_throttled", ""): 1.0})
            for folder in ("bus", "devices/virtual", "class/hwmon"):
                shutil.rmtree(sysfs / folder)
            second = {key: value for key, value in first.items() if key[0] == "unispect_clock_hertz"}
            await until(scrape, second | {("unispect_gpu_load_ratio", ""): 0.0})

    asyncio.run(scenario())


def test_another_machine_has_none_of_it_and_no_thread(
    bundle_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    laptop = tmp_path / "sys"
    zone = laptop / "devices/virtual/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("x86_pkg_temp\n")
    (zone / "temp").write_text("50000\n")

    async def scenario(root: Path) -> None:
        async with scraping(bundle_folder, tmp_path, root) as scrape:
            for thread in (thread for thread in threading.enumerate() if thread.name == "telemetry"):
                await asyncio.to_thread(thread.join, 10)
                assert not thread.is_alive()
            assert await scrape() == {}

    for root in (laptop, tmp_path / "nothing"):
        asyncio.run(scenario(root))
    assert not [record for record in caplog.records if "telemetry" in record.name]


@asynccontextmanager
async def scraping(bundle: Path, folder: Path, root: Path) -> AsyncIterator:
    """Scrapes the running application: the values of the telemetry's gauges by name and label."""
    app = create_app(Settings(bundle=bundle, data_dir=folder / "data", sysfs_root=root))
    names = {
        "unispect_gpu_load_ratio",
        "unispect_clock_hertz",
        "unispect_temperature_celsius",
        "unispect_power_watts",
        "unispect_throttled",
        "unispect_supply_events",
    }
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):

        async def scrape() -> dict[tuple[str, str], float]:
            families = text_string_to_metric_families((await client.get("/metrics")).text)
            samples = [sample for family in families if family.name in names for sample in family.samples]
            return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}

        yield scrape


async def until(scrape, expected: dict[tuple[str, str], float]) -> None:
    seen = None
    for _ in range(500):
        seen = await scrape()
        if seen == pytest.approx(expected):
            return
        await asyncio.sleep(0.02)
    assert seen == expected
