"""The comparison of servers, with the one that needs no environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_comparison_starts_asks_and_stops_a_server(bundle_folder: Path, tmp_path: Path) -> None:
    arguments = (
        *("--environments", tmp_path, "--servers", "unispect", "--rounds", "2", "--requests", "5"),
        *("--seconds", "0.2", "--json", tmp_path / "figures.json"),
    )
    command = [sys.executable, "-m", "benchmarks.serving.compare", bundle_folder, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "figures.json").read_text())["servers"]["unispect"]
    assert 0 < measured["latency_ms"]["p50"] <= measured["latency_ms"]["p99"]
    assert len(measured["requests_per_second"]["rounds"]) == 2
    assert "| unispect (" in done.stdout
