"""Whether the pages of the past are quick however much of it there is.

    python -m benchmarks.pages BUNDLE [--inspections 100000] [--reviews 3000] [--json FILE]

Fills a ledger, times the history's query for every kind of filter that the form can make, and each page over HTTP and,
where it is installed, in Chromium. Prints its figures as JSON, and exits with 1 where one is not as wanted: 50 ms a
query, 1 s a page.
"""

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
from rich.progress import track

from benchmarks.filled_ledger import STATIONS, VERDICTS, fill
from benchmarks.running import start, stop
from engines import bundle as bundles
from service.history import History
from service.history_filter import Filter
from service.ledger.database import parse_url, reading_engine

PAGE = 51
QUERY_MS, PAGE_MS = 50.0, 1000.0
CLASSES = 15
HOUR = 3600 * 10**6


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--inspections", type=int, default=100_000)
    parser.add_argument("--reviews", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known = [part.name for part in bundles.load(options.bundle).manifest.part_classes]
    classes = [*known, *(f"part-{number:02d}" for number in range(CLASSES - len(known)))]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        ids = fill(data, classes, options.inspections, options.reviews)
        figures: dict[str, object] = {"inspections": options.inspections, "reviews": options.reviews}
        figures["query_ms"] = queries(data, classes, ids)
        _, server, port = start(options.bundle, data)
        try:
            figures["page_ms"] = pages(f"http://127.0.0.1:{port}", classes, ids)
        finally:
            stop(server)
    slowest_page = max(times["max"] for times in figures["page_ms"].values())  # type: ignore[attr-defined]
    figures["as_wanted"] = figures["query_ms"]["max"] < QUERY_MS and slowest_page < PAGE_MS  # type: ignore[index]
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["as_wanted"] else 1


def queries(data: Path, classes: list[str], ids: list[str]) -> dict[str, object]:
    """Milliseconds of a page of each filter, the middle of five and of the processor, and the slowest filters."""
    engine = reading_engine(parse_url(None, data))
    history = History(engine)
    first, last = (int(id_[:12], 16) * 1000 for id_ in (ids[0], ids[-1]))
    spans = ((None, None), (last - HOUR, None), (None, first + HOUR), (first - 2 * HOUR, first - HOUR))
    wanted = itertools.product(
        (None, classes[0], classes[1], classes[-1], "unknown"),
        (None, *VERDICTS),
        (None, STATIONS[0], STATIONS[-1], "unknown"),
        (None, f"P{len(ids) // 2 // 3 * 3 + 1:07d}", "unknown"),
        spans,
        (None, True, False),
    )
    places = ({}, {"after": ids[len(ids) // 2]}, {"before": ids[len(ids) // 2]})
    times: list[tuple[float, float, str]] = []
    for part_class, verdict, station, part_id, (since, until), reviewed in track(list(wanted), "Timing filters"):
        one = Filter(part_class, verdict, station, part_id, since, until, reviewed)
        for place in places:
            found = [_timed(lambda: history.page(one, PAGE, **place)) for _ in range(5)]  # noqa: B023
            wall, processor = (statistics.median(values) for values in zip(*found, strict=True))
            times.append((wall, processor, f"{one} {next(iter(place), 'newest')}"))
    engine.dispose()
    times.sort()
    return {
        "filters": len(times),
        "p50": round(times[len(times) // 2][0], 2),
        "p99": round(times[len(times) * 99 // 100][0], 2),
        "max": round(times[-1][0], 2),
        "max_of_processor": round(max(processor for _, processor, _ in times), 2),
        "slowest": [f"{wall:.1f} ms, {processor:.1f} of the processor: {name}" for wall, processor, name in times[-5:]],
    }


def pages(url: str, classes: list[str], ids: list[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of each page: the first time, in the middle and at most; by HTTP alone and in a browser."""
    paths = {
        "statistics": "/statistics",
        "live": "/",
        "engines": "/engines",
        "history": "/history",
        "history of few": f"/history?part_class={classes[0]}&verdict=fail&reviewed=false",
        "history long ago": f"/history?after={ids[1000]}",
        "inspection": f"/history/{ids[-1]}",
    }
    figures: dict[str, dict[str, float]] = {}
    with httpx.Client(base_url=url, timeout=30) as client:
        for name, path in paths.items():
            figures[name] = _spread(lambda: client.get(path).raise_for_status())  # noqa: B023
    with suppress(ImportError):
        figures |= _in_browser(url, paths)
    return figures


def _in_browser(url: str, paths: dict[str, str]) -> dict[str, dict[str, float]]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        return {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        figures = {f"{name}, in Chromium": _spread(lambda: page.goto(url + path)) for name, path in paths.items()}  # noqa: B023
        browser.close()
    return figures


def _spread(call: Callable[[], object]) -> dict[str, float]:
    found = [_timed(call)[0] for _ in range(10)]
    return {"first": round(found[0], 1), "p50": round(statistics.median(found), 1), "max": round(max(found), 1)}


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds by the clock, and of this process's processor time."""
    began, processor = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - began) * 1e3, (time.process_time() - processor) * 1e3


if __name__ == "__main__":
    sys.exit(main())
