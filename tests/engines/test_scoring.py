"""From maps and embeddings to verdicts and regions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.bundle import PartClass, Review
from engines.errors import UnknownPartClass
from engines.scoring import Inspection, Judge, find_regions

SIDE = 64


def part_class(name: str, centroid: list[float], threshold: float = 1.0, pixel_threshold: float = 0.5) -> PartClass:
    return PartClass(
        name=name,
        centroid=centroid,
        max_distance=1.0,
        good_scores=[0.1 * k for k in range(1, 10)],
        false_reject_rate=0.1,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
    )


JUDGE = Judge([part_class("gear", [0.0, 0.0]), part_class("cap", [10.0, 0.0], threshold=2.0, pixel_threshold=2.0)])
GEAR = np.array([0.2, 0.1], np.float32)


def judged(
    anomaly_map: NDArray[np.float32], part: str | None = None, size: tuple[int, int] = (SIDE, SIDE)
) -> Inspection:
    return JUDGE.judge(anomaly_map, float(anomaly_map.max()), GEAR, size, part)


def random_map(rng: np.random.Generator) -> NDArray[np.float32]:
    bumps = rng.random((8, 8), np.float32) ** 4 * rng.uniform(0.2, 3.0)
    return np.kron(bumps, np.ones((8, 8), np.float32))


def test_a_part_fails_exactly_when_it_has_regions() -> None:
    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(300):
        inspection = judged(random_map(rng), str(rng.choice(["gear", "cap"])))
        assert (inspection.verdict == "fail") == bool(inspection.regions)
        assert (inspection.verdict == "fail") == (inspection.score > inspection.threshold)
        verdicts.add(inspection.verdict)
    assert verdicts == {"pass", "fail"}


def test_a_third_state_lies_between_the_two_thresholds() -> None:
    judge = Judge([part_class("gear", [0.0, 0.0]).model_copy(update={"review": Review(rate=0.2, threshold=0.75)})])
    rng = np.random.default_rng(2)
    verdicts = set()
    for _ in range(300):
        anomaly_map = random_map(rng)
        score = float(anomaly_map.max())
        found = judge.judge(anomaly_map, score, GEAR, (SIDE, SIDE))
        assert found.verdict == ("fail" if score > 1.0 else "review" if score > 0.75 else "pass")
        assert bool(found.regions) == (found.verdict != "pass")
        assert all(region.peak > (1.0 if found.verdict == "fail" else 0.75) for region in found.regions)
        # What fails and where is as it was without a review.
        plain = judged(anomaly_map)
        assert (plain.verdict == "fail") == (found.verdict == "fail")
        assert found.verdict != "fail" or found.regions == plain.regions
        verdicts.add(found.verdict)
    assert verdicts == {"pass", "review", "fail"}


def test_a_part_for_review_shows_where_although_the_review_begins_below_the_edge_of_regions() -> None:
    review = Review(rate=0.2, threshold=0.3)
    judge = Judge([part_class("gear", [0.0, 0.0], pixel_threshold=0.9).model_copy(update={"review": review})])
    anomaly_map = np.zeros((SIDE, SIDE), np.float32)
    anomaly_map[10:20, 30:34] = 0.6
    found = judge.judge(anomaly_map, 0.6, GEAR, (SIDE, SIDE))
    assert (found.verdict, [region.area for region in found.regions]) == ("review", [40])


@pytest.mark.parametrize(("embedding", "name"), [([4.9, 3.0], "gear"), ([5.1, -3.0], "cap")])
def test_the_nearest_centroid_names_the_part(embedding: list[float], name: str) -> None:
    vector = np.array(embedding, np.float32)
    assert JUDGE.recognise(vector) == name
    assert JUDGE.judge(np.zeros((8, 8), np.float32), 0.0, vector, (8, 8)).part_class == name


def test_a_score_equal_to_the_threshold_passes() -> None:
    inspection = judged(np.full((SIDE, SIDE), 1.0, np.float32))
    assert (inspection.verdict, inspection.regions) == ("pass", ())


def test_largest_region_peak_is_the_score_and_comes_first() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        anomaly_map = random_map(rng) + np.float32(rng.random() * 0.3)
        inspection = judged(anomaly_map)
        peaks = [region.peak for region in inspection.regions]
        assert peaks == sorted(peaks, reverse=True)
        if peaks:
            assert peaks[0] == inspection.score
            assert min(peaks) > inspection.threshold


def test_regions_show_the_whole_defect_and_only_defects() -> None:
    anomaly_map = np.zeros((SIDE, SIDE), np.float32)
    anomaly_map[10:20, 30:34] = 0.6
    anomaly_map[12, 31] = 3.0
    anomaly_map[40:50, 40:50] = 0.9
    (region,) = find_regions(anomaly_map, 0.5, 1.0, (SIDE, SIDE))
    assert (region.x, region.y, region.width, region.height, region.area) == (30, 10, 4, 10, 40)
    assert region.peak == 3.0


def test_corners_that_touch_are_one_region() -> None:
    anomaly_map = np.zeros((SIDE, SIDE), np.float32)
    anomaly_map[5, 5] = anomaly_map[6, 6] = 2.0
    assert len(find_regions(anomaly_map, 0.5, 1.0, (SIDE, SIDE))) == 1


def test_regions_with_overlapping_boxes_keep_their_own_peaks() -> None:
    anomaly_map = np.zeros((SIDE, SIDE), np.float32)
    anomaly_map[10, 10:30] = anomaly_map[10:30, 10] = 1.5
    anomaly_map[20, 20] = 4.0
    regions = find_regions(anomaly_map, 0.5, 1.0, (SIDE, SIDE))
    assert [region.peak for region in regions] == [4.0, 1.5]
    assert [region.area for region in regions] == [1, 39]


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (1000, 333), (40, 30)])
def test_boxes_are_in_pixels_of_the_original_and_inside_it(size: tuple[int, int]) -> None:
    anomaly_map = np.zeros((SIDE, SIDE), np.float32)
    anomaly_map[16:32, 48:64] = 2.0
    (region,) = find_regions(anomaly_map, 0.5, 1.0, size)
    width, height = size
    assert abs(region.x - width * 0.75) <= 1
    assert abs(region.y - height * 0.25) <= 1
    assert region.x <= width * 0.75 and region.x + region.width == width
    assert region.y <= height * 0.25 and region.y + region.height >= height * 0.5
    assert abs(region.area - width * height / 16) <= 1


def test_recognises_the_nearest_class() -> None:
    quiet = np.zeros((SIDE, SIDE), np.float32)
    for embedding, name in (([0.3, 0.3], "gear"), ([9.5, 0.2], "cap"), ([4.9, 0.0], "gear"), ([5.1, 0.0], "cap")):
        inspection = JUDGE.judge(quiet, 0.0, np.array(embedding, np.float32), (SIDE, SIDE))
        assert (inspection.part_class, inspection.part_class_source) == (name, "recognised")
        assert inspection.threshold == {"gear": 1.0, "cap": 2.0}[name]


def test_given_class_wins_over_the_recognised_one() -> None:
    anomaly_map = np.full((SIDE, SIDE), 1.5, np.float32)
    assert judged(anomaly_map).verdict == "fail"
    given = judged(anomaly_map, "cap")
    assert (given.verdict, given.part_class, given.part_class_source) == ("pass", "cap", "given")
    assert given.unknown_part


@pytest.mark.parametrize(("embedding", "unknown"), [([0.9, 0.0], False), ([0.0, 1.1], True), ([500.0, 500.0], True)])
def test_a_part_unlike_every_class_is_unknown(embedding: list[float], unknown: bool) -> None:
    quiet = np.zeros((SIDE, SIDE), np.float32)
    inspection = JUDGE.judge(quiet, 0.0, np.array(embedding, np.float32), (SIDE, SIDE))
    assert inspection.unknown_part is unknown


def test_p_value_is_that_of_the_class() -> None:
    assert judged(np.zeros((SIDE, SIDE), np.float32)).p_value == 1.0
    assert judged(np.full((SIDE, SIDE), 5.0, np.float32)).p_value == 0.1


def test_a_name_the_engine_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(UnknownPartClass, match="gear, cap"):
        judged(np.zeros((SIDE, SIDE), np.float32), "bolt" * 1000)
