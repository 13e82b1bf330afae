"""What to choose when: a paragraph each on method, precision and calibration, made from the results."""

from build_engines.quantization import defaults
from build_engines.study.detail_tables import CALIBRATION
from build_engines.study.document import Section, told
from build_engines.study.plan import FP32, INT8, Engine
from build_engines.study.results import Results
from build_engines.study.statistics import Interval
from build_engines.study.words import TOLERANCE, listed, sentence, spread, times


def what_to_choose(results: Results) -> Section:
    """The three paragraphs; each is left out where its engines are missing."""
    paragraphs = [_method(results), _precision(results), _calibration(results)]
    return Section("What to choose when", [paragraph for paragraph in paragraphs if paragraph])


def _method(results: Results) -> str:
    """By the unified INT8 engine, for that is what is deployed."""
    usable = [method for method in results.measured if results.engine(method, INT8)]
    if not usable:
        return ""
    aurocs = {method: results.mean(results.engine(method, INT8), "image_auroc") or 0.0 for method in usable}
    best = max(aurocs, key=lambda method: aurocs[method])
    told_mean = results.bootstrap.mean(results.scores(best, INT8) or {})
    said = [
        f"Method. {best.upper()} has the highest mean image AUROC of the unified INT8 engines, "
        f"{told_mean.estimate:.3f} [{told_mean.low:.3f}, {told_mean.high:.3f}]."
    ]
    gains = {
        other: gain
        for other in sorted(usable, key=lambda method: -aurocs[method])
        if other != best and (gain := results.difference((results.scores(best, INT8), results.scores(other, INT8))))
    }
    if gains:
        said.append(_lead(gains))
        winners = {
            name: max(usable, key=lambda method: _class_auroc(results, method, name)) for name in results.classes
        }
        by_method = {m: [name for name, winner in winners.items() if winner == m] for m in usable}
        said.append(
            sentence(
                f"By class: {listed(f'{m.upper()} leads on {listed(won)}' for m, won in by_method.items() if won)}"
            )
        )
    said.append(_cheapest(results, usable, best, gains))
    return " ".join(part for part in said if part)


def _lead(gains: dict[str, Interval]) -> str:
    """What the best method leads the others by."""
    shown = [f"{other.upper()} by {told(gain)}" for other, gain in gains.items() if not gain.includes_zero]
    alike = [f"{other.upper()}, {told(gain)}" for other, gain in gains.items() if gain.includes_zero]
    said = [f"It leads {listed(shown)}."] if shown else []
    said += [f"These pictures show no difference to {listed(alike)}."] if alike else []
    return " ".join(said)


def _cheapest(results: Results, usable: list[str], best: str, gains: dict[str, Interval]) -> str:
    timings = {method: timing.median for method in usable if (timing := results.timing(method, INT8))}
    if not timings:
        return ""
    fastest = min(timings, key=lambda method: timings[method])
    if fastest == best:
        return f"It is also the fastest, {timings[best]:.1f} ms a picture: take {best.upper()}."
    slower = timings[best] / timings[fastest] if best in timings else None
    said = f"The fastest is {fastest.upper()}, {timings[fastest]:.1f} ms a picture"
    said += f" against {timings[best]:.1f} ms, {slower:.1f} times as long. " if slower else ". "
    equals = [method for method in timings if method == best or gains[method].includes_zero]
    quickest = min(equals, key=lambda method: timings[method]) if equals else best
    if quickest == best:
        return said + f"Take {best.upper()} where accuracy decides, and {fastest.upper()} where time does."
    end = "" if quickest == fastest else f", and {fastest.upper()} where time decides alone"
    return said + f"Take {quickest.upper()}: it is faster than {best.upper()} and not shown to be worse{end}."


def _precision(results: Results) -> str:
    said = ["Precision."]
    kept: list[tuple[str, Interval]] = []
    lost: list[tuple[str, Interval]] = []
    for method in results.measured:
        ptq = results.against(method, INT8)
        if ptq is None:
            continue
        (kept if ptq.estimate >= -TOLERANCE else lost).append((method, ptq))
    if not kept and not lost:
        return ""
    if kept:
        told_kept = listed(f"{method.upper()} {told(found)}" for method, found in kept)
        said.append(f"INT8 by PTQ keeps mean image AUROC within {TOLERANCE} of FP32 or better: {told_kept}.")
    for method, found in lost:
        said.append(f"For {method.upper()} it costs more: {told(found)}; {_mend(results, method)}.")
    said.append(_bytes_and_time(results, [method for method, _ in [*kept, *lost]]))
    said.append(_qat(results))
    if kept:
        said.append(f"Take INT8 by PTQ for {listed(method.upper() for method, _ in kept)}.")
    return " ".join(part for part in said if part)


def _mend(results: Results, method: str) -> str:
    """What of the float, mixed or fine-tuned engines does better than INT8 PTQ."""
    tried = [engine for engine, _ in results.of_method(method) if not engine.simulated and engine not in (FP32, INT8)]
    tried = [engine for engine in tried if not engine.fine_tuning_epochs]
    gains = {engine: gain for engine in tried if (gain := results.against(method, engine))}
    enough = [engine for engine, gain in gains.items() if gain.estimate >= -TOLERANCE]
    if not enough:
        return "nothing that was tried brings it back within that"

    def size(engine: Engine) -> int:
        found = results.engine(method, engine)
        return found.size if found else 0

    best = min(enough, key=lambda engine: (size(engine), -gains[engine].estimate))
    return f"the smallest engine that stays within is {best.label}, {told(gains[best])}"


def _bytes_and_time(results: Results, methods: list[str]) -> str:
    sizes, times_faster = [], []
    for method in methods:
        base, found, ratio = results.engine(method, FP32), results.engine(method, INT8), results.ratio(method, INT8)
        if base and found:
            sizes.append(base.size / found.size)
        if ratio:
            times_faster.append(1 / ratio)
    said = f"INT8 bundles are {spread(sizes)} times smaller than FP32 ones"
    return said + (f", and {spread(times_faster)} times faster than PyTorch FP32." if times_faster else ".")


def _qat(results: Results) -> str:
    told_gains = []
    for method in results.measured:
        qat, control = results.find(method, "qat"), results.find(method, "ptq")
        gain = results.against(method, qat, control) if qat and control else None
        if gain:
            told_gains.append(f"{method.upper()} {told(gain)}")
    return f"QAT brings, against PTQ of a model trained equally long: {listed(told_gains)}." if told_gains else ""


def _calibration(results: Results) -> str:
    """By the mean over methods, so that one rule serves all."""
    methods = [method for method in results.measured if results.scores(method, INT8)]
    engines = {engine for method in methods for engine, _ in results.of_method(method, CALIBRATION)} - {INT8}
    gains = {}
    for engine in engines:
        found = results.difference(
            *((results.scores(method, engine), results.scores(method, INT8)) for method in methods)
        )
        if found:
            gains[f"{engine.calibration} with {engine.calibrator}"] = found
    if not gains:
        return ""
    order = sorted(gains, key=lambda name: (-gains[name].estimate, name))
    better = [name for name in order if gains[name].low > 0]
    worse = [name for name in order if gains[name].high < 0]
    said = (
        f"Calibration. Over {times(len(methods), 'method')}, training images with {defaults.CALIBRATOR} are compared "
        f"with {times(len(gains), 'other combination')}: intervals that exclude zero show {len(better)} to be better "
        f"and {len(worse)} worse. The best is {order[0]}, {told(gains[order[0]])}; the worst {order[-1]}, "
        f"{told(gains[order[-1]])}. "
    )
    if better and gains[better[0]].estimate >= TOLERANCE:
        return said + f"Take {better[0]}."
    return said + f"Take training images with {defaults.CALIBRATOR}: nothing is shown to be better by {TOLERANCE}."


def _class_auroc(results: Results, method: str, name: str) -> float:
    found = results.engine(method, INT8)
    return (found.classes[name].metrics["image_auroc"] or 0.0) if found else 0.0
