"""The questions that P1 leaves open, answered with this study's figures. Every sentence is made from results."""

from dataclasses import dataclass

import numpy as np

from build_engines.quantization import defaults
from build_engines.study import paper
from build_engines.study.detail_tables import (
    CALIBRATION,
    UNDER_8_BITS,
    calibrations,
    class_gain,
    likeness,
    under_8_bits,
)
from build_engines.study.document import Section, told
from build_engines.study.plan import FP32, INT8, RANDOM_NORMAL, Engine
from build_engines.study.results import Results
from build_engines.study.statistics import Interval, spearman_over_classes
from build_engines.study.words import TOLERANCE, listed, sentence, spread, times

# A correlation that shuffled classes give as often as this is none.
_CHANCE = 0.05


@dataclass(frozen=True)
class Gain:
    """What an engine gains over another."""

    engine: Engine
    interval: Interval


def alike_classes(results: Results) -> Section:
    """P1's first question: unified models when classes look alike."""
    paragraphs = [
        "P1 asks how one model for all does when classes look alike. For each class: how far its good parts reach "
        "towards the nearest other class, and what the unified model gains or loses against the class's own model."
    ]
    usable = [
        method
        for method in results.measured
        if all(
            class_gain(results, method, name) and _reach(results, method, name) is not None for name in results.classes
        )
    ]
    if usable:
        gains = {(m, name): class_gain(results, m, name) for m in usable for name in results.classes}
        known = {pair: found for pair, found in gains.items() if found}
        worse = [pair for pair, found in known.items() if found.high < 0]
        better = [pair for pair, found in known.items() if found.low > 0]
        paragraphs.append(
            sentence(
                f"of {len(known)} pairs of method and class, the unified model is worse than the class's own in "
                f"{len(worse)}{_pairs(worse)}, better in {len(better)}{_pairs(better)}, and in "
                f"{len(known) - len(worse) - len(better)} these pictures show no difference"
            )
        )
        paragraphs.append(_correlation(results, usable))
        reaches = [_reach(results, method, name) or 0.0 for method in usable for name in results.classes]
        closest = max(reaches)
        paragraphs.append(
            f"The largest reach is {closest:.2f}: "
            + (
                "classes overlap, so the question is put to the test."
                if closest >= 1
                else "no class reaches its neighbour, so classes that truly overlap are not among these parts, and "
                "nothing here speaks about them."
            )
        )
    return Section("1. Unified against one-class, when classes look alike", paragraphs, [likeness(results)])


def calibration_strategy(results: Results) -> Section:
    """P1's second question: calibration beyond training images and random normal data."""
    paragraphs = [
        "P1 asks for a calibration beyond training images and random normal data. Every source meets every "
        f"calibrator; differences are to training images with {defaults.CALIBRATOR}, in mean image AUROC of the "
        "unified INT8 engine."
    ]
    grid = {method: _grid(results, method) for method in results.measured}
    for method, gains in grid.items():
        if not gains:
            continue
        best, worst = max(gains, key=_estimate), min(gains, key=_estimate)
        above = sum(gain.interval.low > 0 for gain in gains)
        below = sum(gain.interval.high < 0 for gain in gains)
        paragraphs.append(
            f"{method.upper()}: of {times(len(gains), 'other combination')}, intervals that exclude zero show {above} "
            f"to be better and {below} worse. The best is {_name(best.engine)}, {told(best.interval)}; the worst is "
            f"{_name(worst.engine)}, {told(worst.interval)}."
        )
    noise = {method: results.against(method, RANDOM_NORMAL, INT8) for method in results.measured}
    theirs = {m: pair[1].auroc - pair[0].auroc for m, pair in paper.TABLE_4.items() if noise.get(m)}
    if theirs:
        here = listed(f"{m.upper()} {told(found)}" for m, found in noise.items() if found)
        there = listed(f"{m.upper()} +{gain:.2f}" for m, gain in theirs.items())
        paragraphs.append(
            f"Random normal data instead of training images gains, with {defaults.CALIBRATOR}: {here}; in P1: {there}."
        )
    count = sum(map(len, grid.values()))
    if count:
        paragraphs.append(
            f"These are {count} intervals of 95 %: of so many, {count / 20:.1f} exclude zero by chance alone."
        )
    tables = [calibrations(results, method) for method, gains in grid.items() if gains]
    return Section("2. Calibration", paragraphs, tables)


def narrow_integers(results: Results) -> Section:
    """P1's third question: what precisions under 8 bits cost and bring."""
    paragraphs = [
        "P1 asks what precisions under 8 bits cost and bring. No engine here computes in fewer than 8 bits, so they "
        "are simulated: accuracy is measured on the rounded network, sizes are as if its weights were packed, and "
        "there is nothing to say about speed."
    ]
    usable = [method for method in results.measured if results.engine(method, INT8)]
    engines = dict.fromkeys(engine for method in usable for engine, _ in results.of_method(method, UNDER_8_BITS))
    means = {engine: found for engine in engines if (found := _mean_gain(results, usable, engine))}
    if means:
        told_means = (
            f"{_bits(engine)} {told(found)}, {_smaller(results, usable, engine)}" for engine, found in means.items()
        )
        paragraphs.append(f"Against INT8, mean over {times(len(usable), 'method')}: {'; '.join(told_means)}.")
        kept = [_bits(engine) for engine, found in means.items() if found.estimate >= -TOLERANCE]
        paragraphs.append(
            f"Within {TOLERANCE} of INT8 on average stay: {listed(kept)}."
            if kept
            else f"None stays within {TOLERANCE} of INT8 on average: fewer bits than 8 want more than PTQ."
        )
    return Section("3. Precision under 8 bits", paragraphs, [under_8_bits(results)])


def _mean_gain(results: Results, methods: list[str], engine: Engine) -> Interval | None:
    return results.difference(*((results.scores(method, engine), results.scores(method, INT8)) for method in methods))


def _bits(engine: Engine) -> str:
    activations = f", activations of {engine.activation_bits}" if engine.activation_bits < 8 else ""
    return f"weights of {engine.weight_bits} bits{activations}"


def _smaller(results: Results, methods: list[str], engine: Engine) -> str:
    """How much smaller than FP32 a narrow engine would be, over methods."""
    pairs = [(results.engine(method, FP32), results.engine(method, engine)) for method in methods]
    ratios = [base.size / (found.packed_size or found.size) for base, found in pairs if base and found]
    return f"{spread(ratios)} times smaller than FP32"


def _correlation(results: Results, methods: list[str]) -> str:
    shape = len(methods), len(results.classes)
    pairs = [(method, name) for method in methods for name in results.classes]
    gains = [found.estimate if (found := class_gain(results, *pair)) else 0.0 for pair in pairs]
    reach = np.array([_reach(results, *pair) for pair in pairs], np.float64).reshape(shape)
    correlation = spearman_over_classes(reach, np.array(gains).reshape(shape))
    if correlation is None:
        return "Reach or gain do not vary, so there is no correlation to speak of."
    shown = correlation.p_value <= _CHANCE
    verdict = "the more alike, the more the unified model loses" if shown else "likeness is not shown to cost anything"
    rho = f"{correlation.rho:.2f}".replace("-", "−")
    return (
        f"Spearman's correlation of reach and gain over {times(shape[1], 'class')} and {times(shape[0], 'method')} is "
        f"{rho}; shuffled classes give one as low with p = {correlation.p_value:.2f}: {verdict}."
    )


def _reach(results: Results, method: str, name: str) -> float | None:
    found = results.engine(method, FP32)
    return found.classes[name].reach if found else None


def _grid(results: Results, method: str) -> list[Gain]:
    engines = [engine for engine, _ in results.of_method(method, CALIBRATION) if engine != INT8]
    gains = [(engine, results.against(method, engine, INT8)) for engine in engines]
    return [Gain(engine, interval) for engine, interval in gains if interval]


def _estimate(gain: Gain) -> float:
    return gain.interval.estimate


def _name(engine: Engine) -> str:
    return f"{engine.calibration} with {engine.calibrator}"


def _pairs(pairs: list[tuple[str, str]]) -> str:
    """In brackets, by method; empty for none."""
    by_method = {method: [name for other, name in pairs if other == method] for method, _ in pairs}
    named = "; ".join(f"{method.upper()} on {listed(names)}" for method, names in by_method.items())
    return f" ({named})" if named else ""
