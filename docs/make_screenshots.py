"""Takes the screenshots of docs/pages.md: a real service, with what `make demo` left, in a real browser."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from benchmarks.running import start, stop
from build_engines.commands.measure import evaluate_bundle
from build_engines.rethresholding import Rates, rethreshold
from engines import bundle as bundles
from engines.errors import UnispectError
from engines.files import write_atomic
from service.answers import RegionAnswer
from service.client import Client

_SIZE = {"width": 1280, "height": 860}
_STATION = "line 3"
_SHADOW_RATES = Rates(false_reject=0.2)


def main() -> int:
    """Take all of them. Returns 0, or 2 with one sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `make demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/images/pages"), help="folder: %(default)s")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser's program: %(default)s")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, _service(arguments.demo, Path(folder)) as url:
            _take_all(url, arguments.out, arguments.chromium)
    except (UnispectError, OSError, httpx.HTTPError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@contextmanager
def _service(demo: Path, folder: Path) -> Iterator[str]:
    """A service with a morning's inspections, a second version as its shadow, and some reviews; yields its address."""
    served = Path(shutil.copytree(demo / "engines" / "demo", folder / "served" / "demo"))
    # What the page of the engines shows of accuracy.
    evaluate_bundle(served, demo / "parts", "auto", None, None, 0, True, Console(quiet=True))
    bundle = bundles.load(served)
    rethreshold(bundle, None, _SHADOW_RATES, folder / "upload" / "demo", "2")
    archive = shutil.make_archive(str(folder / "second"), "zip", folder / "upload")
    _, server, port = start(bundle.folder, folder / "data", "--pictures", "all", "--pictures-reserve-mb", "0")
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60) as http:
            http.post(
                "/v1/engines", content=Path(archive).read_bytes(), headers={"Content-Type": "application/zip"}
            ).raise_for_status()
            http.put("/v1/shadow", json={"name": "demo", "version": "2"}).raise_for_status()
        _inspect_all(url, demo / "parts")
        yield url
    finally:
        stop(server)


def _inspect_all(url: str, parts: Path) -> None:
    """Good parts, some defective ones between them, and last one again whose defect was found."""
    good = sorted(parts.glob("*/test/good/*.png"))
    defective = sorted(path for path in parts.glob("*/test/*/*.png") if path.parent.name != "good")[::6]
    with Client(url) as client:
        found = None
        for number, path in enumerate(sorted([*good, *defective], key=lambda path: path.stem)):
            answer = client.inspect(path.read_bytes(), part_id=f"P-{4700 + number}", station=_STATION)
            if answer.verdict == "fail":
                is_good = path.parent.name == "good"
                client.review(answer.id, "ok" if is_good else "defect", "a reflection" if is_good else None)
                found = path if not (is_good or answer.unknown_part) and _is_found(path, answer.regions) else found
        if found is not None:
            client.inspect(found.read_bytes(), part_id="P-4999", station=_STATION)


def _is_found(path: Path, regions: Sequence[RegionAnswer]) -> bool:
    """Whether the worst region of a part is on its defect."""
    masks = path.parents[2] / "ground_truth" / path.parent.name
    mask = cv2.imread(str(masks / f"{path.stem}_mask.png"), cv2.IMREAD_GRAYSCALE)
    worst = regions[0]
    return mask is not None and bool(mask[worst.y : worst.y + worst.height, worst.x : worst.x + worst.width].any())


def _take_all(url: str, out: Path, chromium: str | None) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        newest = httpx.get(f"{url}/v1/inspections?verdict=fail&limit=1").json()["inspections"][0]["id"]
        addresses = {
            "live": "/",
            "history": "/history?verdict=fail",
            "inspection": f"/history/{newest}",
            "statistics": "/statistics",
            "engines": "/engines",
        }
        for name, address in addresses.items():
            page.goto(url + address)
            write_atomic(out / f"{name}.png", _screenshot(page, whole=name == "statistics"))
        browser.close()


def _screenshot(page: Page, whole: bool) -> bytes:
    # The stream keeps a connection open: what is to be seen is there once the images are.
    page.wait_for_load_state("load")
    page.wait_for_timeout(1000)
    return page.screenshot(full_page=whole)


if __name__ == "__main__":
    sys.exit(main())
