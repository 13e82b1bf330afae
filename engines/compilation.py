"""From a bundle to a plan for one device: convert, lint, compile, run the golden image, and only then store it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from onnx import ModelProto

from engines import lint
from engines.backends.base import LibraryName
from engines.backends.cuda import Device, why_no_gpu
from engines.backends.tensorrt import TensorRtBackend
from engines.backends.tensorrt_compiler import Compiled, Source, Target, compile_source
from engines.backends.tensorrt_library import Library, Log
from engines.backends.tiled import TiledBackend
from engines.bundle import MODEL, Bundle
from engines.compile_process import Stage
from engines.errors import CompileError
from engines.golden import Agreement, check_agreement, golden_pixels
from engines.half_precision import head, in_half, magnitudes, near_the_end
from engines.onnx_graph import read_model, title
from engines.plan_records import PlanKey, PlanPrecision, PlanRecord, Profile, plan_precision
from engines.plans import FREE_BYTES, Plan, PlanStore, plans_folder
from engines.tensorrt_form import for_tensorrt

Report = Callable[[Stage, float | None], None]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        precision: None means the bundle's.
        compute_capability: of a GPU that is not here, as in 8.6; None for the one at hand.
    """

    library: LibraryName = "tensorrt"
    precision: PlanPrecision | None = None
    profile: Profile = field(default_factory=Profile)
    workspace_bytes: int = 2**30
    compute_capability: str | None = None


@dataclass(frozen=True)
class Outcome:
    """A plan, and whether it was there already."""

    plan: Plan
    reused: bool


def compile_bundle(
    bundle: Bundle, request: Request, cache_dir: Path | None, report: Report, log: Log | None = None
) -> Outcome:
    """Compile a bundle, or find the plan that was compiled before. One process compiles, others wait for it.

    With a GPU the plan is run on the golden image before it is stored; without, it is stored as never run.

    Args:
        cache_dir: of compiled networks; None for the bundle's own folder.
        report: gets each stage as it begins, and the share of it that is done where that is known.
        log: gets what the compiler logs.

    Raises:
        BackendError: the library is missing or of a wrong version, or the GPU fails.
        GraphError: the network breaks a rule of TensorRT 8.5.
        CompileError: there is no GPU, the library refuses, the plan disagrees with the CPU, or the disk is full.
    """
    library = Library(request.library, log)
    precision = _precision(bundle, request.precision)
    with ExitStack() as resources:
        device = _device(library, request)
        if device is not None:
            resources.callback(device.close)
        key = PlanKey(
            onnx_sha256=bundle.manifest.files[MODEL].sha256,
            library=request.library,
            version=library.version,
            compute_capability=device.compute_capability if device else str(request.compute_capability),
            precision=precision,
            profile=request.profile,
        )
        store = PlanStore(plans_folder(bundle.network, cache_dir))
        plan = _finished(store, key, device)
        if plan is None:
            with store.lock(lambda: report(Stage.WAITING, None)):
                plan = _finished(store, key, device)
                if plan is not None:
                    return Outcome(plan, reused=True)
                return Outcome(_make(bundle, request, library, device, store, key, report), reused=False)
    return Outcome(plan, reused=True)


def source_of(bundle: Bundle, precision: PlanPrecision, strongly_typed: bool) -> Source:
    """The network as a compiler takes it, linted. Raises GraphError."""
    model = for_tensorrt(read_model(bundle.network.path))
    lint.require(model, "tensorrt")
    floating: set[str] = set()
    if precision == "fp16":
        # Where ONNX Runtime is missing the golden image's run on the GPU alone tells of an overflow.
        floating = near_the_end(magnitudes(model, golden_pixels(bundle))) if find_spec("onnxruntime") else set()
        if strongly_typed:
            model = in_half(model, floating)
    if precision != "fp32" and not strongly_typed:
        floating |= head(model)
    return _source(model, bundle, precision, floating)


def _source(model: ModelProto, bundle: Bundle, precision: PlanPrecision, floating: set[str]) -> Source:
    nodes = model.graph.node
    return Source(
        model=model.SerializeToString(),
        titles=[title(node) for node in nodes],
        tensors={name for node in nodes for name in node.output},
        input=bundle.manifest.input,
        precision=precision,
        float_tensors=floating,
    )


def _precision(bundle: Bundle, asked: PlanPrecision | None) -> PlanPrecision:
    has = plan_precision(bundle.manifest.precision)
    if asked is None or asked == has:
        return has
    if "int8" in (asked, has):
        raise CompileError(
            f"{bundle.folder} holds a network in {bundle.manifest.precision} and cannot be compiled in {asked}; write "
            f"one with build-engines quantize --precision {asked}."
        )
    return asked


def _device(library: Library, request: Request) -> Device | None:
    if request.compute_capability is not None:
        if not library.compiles_without_gpu:
            raise CompileError(
                f"{library.title} compiles for the GPU at hand alone; leave --compute-capability out, on the device."
            )
        return None
    if reason := why_no_gpu():
        mend = (
            "give --compute-capability to compile without running it"
            if library.compiles_without_gpu
            else "compile on the device that will run it"
        )
        raise CompileError(f"There is no GPU to compile for ({reason}); {mend}.")
    return Device()


def _finished(store: PlanStore, key: PlanKey, device: Device | None) -> Plan | None:
    plan = store.find(key).plan
    return plan if plan is not None and (device is None or plan.record.agreement is not None) else None


def _make(
    bundle: Bundle,
    request: Request,
    library: Library,
    device: Device | None,
    store: PlanStore,
    key: PlanKey,
    report: Report,
) -> Plan:
    store.require_space(max(FREE_BYTES, request.workspace_bytes))
    report(Stage.CONVERTING, None)
    source = source_of(bundle, key.precision, library.strongly_typed)
    report(Stage.COMPILING, None)
    target = Target(request.profile, request.workspace_bytes, request.compute_capability)
    began = perf_counter()
    compiled = _compiled(library, device, source, target, store.timing_cache(key), report)
    seconds = perf_counter() - began
    if compiled.timing_cache:
        store.save_timing_cache(key, compiled.timing_cache)
    agreement, layers = None, None
    if device is not None:
        report(Stage.CHECKING, None)
        agreement, layers = _checked(bundle, library, device, compiled.plan, request.profile.largest)
    record = PlanRecord.of(compiled.plan, key, seconds, request.workspace_bytes, agreement)
    return store.save(record, compiled.plan, layers)


def _compiled(
    library: Library, device: Device | None, source: Source, target: Target, timing_cache: bytes, report: Report
) -> Compiled:
    with ExitStack() as current:
        if device is not None:
            current.enter_context(device)
        return compile_source(library, source, target, timing_cache, lambda share: report(Stage.COMPILING, share))


def _checked(bundle: Bundle, library: Library, device: Device, plan: bytes, largest: int) -> tuple[Agreement, str]:
    network = bundle.network
    backend = TensorRtBackend(network, library, device, plan, largest)
    try:
        whole = backend if network.grid is None else TiledBackend(backend, network.grid, network.outputs)
        agreement = check_agreement(bundle, whole, device.name, largest)
        layers = backend.layer_information()
    finally:
        backend.release()
    if not agreement.holds:
        raise CompileError(
            f"The plan of {bundle.folder} disagrees with the CPU on the golden image ({agreement}) and is not used; "
            "compile it in another --precision."
        )
    return agreement, layers
