"""POST /v1/inspections: every shape of the answer."""

import base64
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from engines.bundle import Manifest
from engines.heatmap import MAX_OVERLAY_SIDE, SCALE_KEY
from service.answers import InspectionAnswer
from tests.service.conftest import RAW, encode
from tests.service.running import RunningServer

URL = "/v1/inspections"
ANSWER_FIELDS = {
    *("id", "part_id", "score", "threshold", "verdict", "p_value", "part_class", "part_class_source", "unknown_part"),
    *("regions", "heatmap", "heatmap_scale", "image", "engine", "timing_ms"),
}


def inspect(server: RunningServer, data: bytes, headers: dict[str, str] | None = None, **query: str):
    return server.client.post(URL, params=query, content=data, headers=RAW | (headers or {}))


def unpack(answer: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer["heatmap"])))


def test_a_raw_body_gets_a_complete_answer(server: RunningServer, picture: bytes, manifest: Manifest) -> None:
    response = inspect(server, picture, part_id="Rotor 7/ä")
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert set(answer) == ANSWER_FIELDS
    thresholds = {part.name: part.threshold for part in manifest.part_classes}
    assert answer["part_id"] == "Rotor 7/ä"
    assert answer["threshold"] == thresholds[answer["part_class"]]
    assert answer["verdict"] == ("fail" if answer["score"] > answer["threshold"] else "pass")
    assert 0 < answer["p_value"] <= 1
    assert answer["part_class_source"] == "recognised"
    assert answer["heatmap"] is None
    height, width = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert answer["image"] == {"width": width, "height": height}
    assert answer["engine"] == {
        "name": manifest.name,
        "version": manifest.version,
        "precision": manifest.precision,
        "backend": "openvino",
    }


def test_the_stages_of_the_timing_add_up(server: RunningServer, picture: bytes) -> None:
    response = inspect(server, picture)
    timing = response.json()["timing_ms"]
    stages = [timing[stage] for stage in ("decode", "queue", "inference", "postprocess")]
    assert all(stage >= 0 for stage in stages)
    assert timing["inference"] > 0
    assert timing["total"] == pytest.approx(sum(stages), abs=5)
    for stage, milliseconds in timing.items():
        assert f"{stage};dur={milliseconds:.3f}" in response.headers["server-timing"]


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "IMAGE/PNG; x=y", "application/octet-stream"])
def test_every_image_type_is_read_by_its_content(server: RunningServer, picture: bytes, media_type: str) -> None:
    assert inspect(server, picture, {"Content-Type": media_type}).status_code == 200


def test_a_form_gets_the_same_score_as_a_raw_body(server: RunningServer, picture: bytes) -> None:
    form = server.client.post(URL, files={"file": ("part.png", picture, "image/png")}, data={"note": "ignored"})
    assert form.status_code == 200
    assert form.json()["score"] == pytest.approx(inspect(server, picture).json()["score"], rel=1e-6)


def test_a_large_form_stays_whole(server: RunningServer, large_picture: bytes) -> None:
    large_picture += b"\0" * 3_000_000
    form = server.client.post(URL, files={"file": ("part.png", large_picture)})
    assert form.json()["score"] == pytest.approx(inspect(server, large_picture).json()["score"], rel=1e-6)


def test_a_failed_part_shows_where(server: RunningServer, alien: bytes) -> None:
    answer = inspect(server, alien).json()
    assert answer["verdict"] == "fail"
    assert answer["unknown_part"] is True
    assert answer["regions"]
    for region in answer["regions"]:
        assert region["peak"] > answer["threshold"]
        assert region["x"] >= 0 and region["x"] + region["width"] <= 300
        assert region["y"] >= 0 and region["y"] + region["height"] <= 200
        assert 0 < region["area"] <= region["width"] * region["height"]


def test_a_given_part_class_decides_the_threshold(server: RunningServer, picture: bytes, manifest: Manifest) -> None:
    for part in manifest.part_classes:
        answer = inspect(server, picture, part_class=part.name).json()
        assert (answer["part_class"], answer["part_class_source"]) == (part.name, "given")
        assert answer["threshold"] == part.threshold


@pytest.mark.parametrize(("width", "height"), [(300, 200), (3000, 1500)])
def test_an_overlay_has_the_size_of_the_image_up_to_a_limit(server: RunningServer, width: int, height: int) -> None:
    data = encode(np.full((height, width, 3), 90, np.uint8), ".jpg")
    answer = inspect(server, data, heatmap="overlay").json()
    overlay = unpack(answer)
    scale = min(1.0, MAX_OVERLAY_SIDE / width)
    assert (overlay.format, overlay.mode) == ("PNG", "RGB")
    assert overlay.size == (round(width * scale), round(height * scale))
    assert answer["image"] == {"width": width, "height": height}
    assert answer["heatmap_scale"] is None


def test_a_map_holds_the_scores_to_16_bits(server: RunningServer, alien: bytes, manifest: Manifest) -> None:
    answer = inspect(server, alien, heatmap="map").json()
    heatmap = unpack(answer)
    values = np.asarray(heatmap, dtype=np.float64) / 65535 * answer["heatmap_scale"]
    assert heatmap.size == (manifest.outputs.map_width, manifest.outputs.map_height)
    assert float(heatmap.text[SCALE_KEY]) == answer["heatmap_scale"]
    assert values.max() == pytest.approx(max(region["peak"] for region in answer["regions"]), rel=1e-4)


def test_who_accepts_png_gets_the_overlay_itself(server: RunningServer, alien: bytes) -> None:
    expected = inspect(server, alien).json()
    response = inspect(server, alien, {"Accept": "image/png"})
    headers = response.headers
    assert headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (300, 200)
    assert float(headers["x-unispect-score"]) == pytest.approx(expected["score"], rel=1e-6)
    assert float(headers["x-unispect-threshold"]) == expected["threshold"]
    assert float(headers["x-unispect-p-value"]) == expected["p_value"]
    assert headers["x-unispect-verdict"] == expected["verdict"]
    assert headers["x-unispect-part-class"] == expected["part_class"]
    assert re.fullmatch("[0-9a-f]{32}", headers["x-unispect-id"])


def test_who_accepts_png_and_asks_for_the_map_gets_the_map(
    server: RunningServer, alien: bytes, manifest: Manifest
) -> None:
    response = inspect(server, alien, {"Accept": "image/png"}, heatmap="map")
    size = (manifest.outputs.map_width, manifest.outputs.map_height)
    assert Image.open(io.BytesIO(response.content)).size == size
    assert float(response.headers["x-unispect-heatmap-scale"]) > 0


@pytest.mark.parametrize("accept", ["*/*", "application/json, image/png", "text/html", ""])
def test_who_does_not_prefer_png_gets_json(server: RunningServer, picture: bytes, accept: str) -> None:
    assert inspect(server, picture, {"Accept": accept}).headers["content-type"] == "application/json"


def test_ids_are_unique_and_sort_by_time(server: RunningServer, picture: bytes) -> None:
    ids = []
    for _ in range(3):
        ids.append(inspect(server, picture).json()["id"])
        server.client.get("/livez")
    assert len(set(ids)) == 3
    assert [id_[:12] for id_ in ids] == sorted(id_[:12] for id_ in ids)


def test_a_request_id_is_kept_or_given_and_logged(server: RunningServer, picture: bytes) -> None:
    kept = inspect(server, picture, {"X-Request-ID": "line-3.camera_1"}).headers["x-request-id"]
    replaced = inspect(server, picture, {"X-Request-ID": "{evil}"}).headers["x-request-id"]
    assert kept == "line-3.camera_1"
    assert re.fullmatch("[0-9a-f]{32}", replaced)

    def logged() -> bool:
        # libpng writes its own errors between the lines.
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        return {kept, replaced} <= {line.get("request_id") for line in lines}

    server.wait_for(logged)


def test_sixteen_at_once_get_each_their_own_result(server: RunningServer, pictures: list[bytes]) -> None:
    chosen = (pictures * 16)[:: max(1, len(pictures) // 16)][:16]
    expected = [inspect(server, data).json()["score"] for data in chosen]
    assert len(set(expected)) > 1
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda data: inspect(server, data).json(), chosen))
    assert [answer["score"] for answer in answers] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("heatmap", ["none", "map", "overlay"])
def test_the_answer_is_what_the_api_documents(server: RunningServer, alien: bytes, heatmap: str) -> None:
    answer = inspect(server, alien, heatmap=heatmap)
    model = InspectionAnswer.model_validate_json(answer.content, strict=True, extra="forbid")
    assert model.model_dump(mode="json") == answer.json()
