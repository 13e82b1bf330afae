"""The command line: `build-engines`."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from typer.exceptions import TyperException

from build_engines import torchrun
from build_engines.quantization import defaults
from engines.errors import UnispectError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()

BAD_INPUT = 2
INTERRUPTED = 130

Data = Annotated[Path, typer.Option("--data", help="Folder in MVTec AD layout: CLASS/train/good, CLASS/test/TYPE.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.")]
BackendOption = Annotated[str, typer.Option("--backend", help="auto, openvino, onnxruntime, tensorrt or tensorrt_rtx.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads of the inference library; 0: one per core.")]

Calibration = Annotated[
    str,
    typer.Option(help="Calibration images: train, random-normal, train+noise, synthetic-anomaly, or a folder of them."),
]
CalibratorOption = Annotated[str, typer.Option("--calibrator", help="minmax, entropy, percentile or mse.")]
CalibrationImages = Annotated[
    int | None, typer.Option("--images", min=1, help="Calibration images; 128, or all where fewer.")
]
Equalization = Annotated[
    float, typer.Option("--equalization", min=0, max=1, help="Strength of cross-layer equalization; 0 leaves it out.")
]
ReviewRate = Annotated[
    float | None,
    typer.Option(help="Good parts that may not pass: above the false-reject rate, for a verdict 'review' in between."),
]
WeightBits = Annotated[int, typer.Option("--weight-bits", help="8, or 6 or 4, which are simulated.")]
ActivationBits = Annotated[int, typer.Option("--activation-bits", help="8, or 6 or 4, which are simulated.")]


@app.callback()
def _root(context: typer.Context) -> None:
    """Train, quantize and measure anomaly detection engines from good images of parts."""
    if torchrun.place() is not None and context.invoked_subcommand != "train":
        from build_engines.commands.options import ArgumentError

        raise ArgumentError(f"torchrun is for train alone; call {context.invoked_subcommand} without it.")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder to write.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of part types.")] = 4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    train: Annotated[int, typer.Option(min=10, help="Good training images a class.")] = 100,
) -> None:
    """Generate synthetic parts with defects and masks, for trying unispect out."""
    from build_engines.data.synthetic import generate

    generate(out, classes=classes, seed=seed, train=train)
    console.print(f"Wrote {classes} part classes to {out}")


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="A shipped recipe (build-engines recipes) or a YAML file; other options go first."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Distillation method: stfpm, rd, dcam or us; stfpm when not given.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Comma-separated part classes; all when not given.")] = None,
    teacher: Annotated[str | None, typer.Option(help="resnet18, or resnet18_half for the procedural one.")] = None,
    teacher_weights: Annotated[
        str | None,
        typer.Option(help="A .pth or .safetensors file, or 'procedural'; torchvision's file when not given."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="The method's own when not given.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="The method's own when not given.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; the method's own when not given.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: constant, cosine or onecycle; constant when not given.")
    ] = None,
    warmup: Annotated[
        float | None, typer.Option(help="Share of the steps in which the rate rises; 0, or 0.3 for onecycle.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Stop after so many epochs without a better held-out loss; 0: never.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=32, max=4096, help="Height and width in pixels, 256 when not given; above 1024 with --tile."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=32, help="Cut images into tiles of this many pixels, for small defects.")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels by which tiles overlap; 32 when not given.")
    ] = None,
    augment: Annotated[
        bool | None, typer.Option(help="Shift training images a little and change their light; off when not given.")
    ] = None,
    corruption: Annotated[
        float | None, typer.Option(help="Share of training images shown to the student with artificial defects; 0.")
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of good images kept for model choice and thresholds; 0.2.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="0 when not given.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; auto when not given.")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs, or processes on the CPU, that share each batch; 1.")
    ] = None,
    mixed_precision: Annotated[
        bool | None, typer.Option(help="Compute in 16 bits where the device does; on when not given.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the method alone; may be repeated.")
    ] = None,
    dense_stride: Annotated[
        int | None, typer.Option(help="Of method us: pixels between described patches, 1, 2 or 4; 4.")
    ] = None,
    frozen_statistics: Annotated[
        float | None, typer.Option(help="Share of the epochs, the last, with batch statistics as inference has them.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Train one student for all part classes from good images."""
    from build_engines.commands.train import parse_options, train_run

    train_run(
        data=data,
        out=out,
        recipe=recipe,
        method=method,
        classes=[name for name in classes.split(",") if name] if classes else None,
        teacher=teacher,
        teacher_weights=teacher_weights,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        schedule=schedule,
        warmup=warmup,
        patience=patience,
        image_size=image_size,
        tile=tile,
        overlap=overlap,
        augmentation=augment,
        corruption=corruption,
        held_out=held_out,
        seed=seed,
        device=device,
        devices=devices,
        mixed_precision=mixed_precision,
        frozen_statistics=frozen_statistics,
        options=parse_options([*(option or ()), *([f"dense_stride={dense_stride}"] if dense_stride else [])]),
        resume=resume,
        console=console,
    )


@app.command()
def recipes() -> None:
    """List the shipped recipes of training."""
    from build_engines.commands.train import list_recipes

    list_recipes(console)


@app.command()
def quantize(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle; an existing bundle is replaced.")],
    precision: Annotated[str, typer.Option(help="int8, fp16, bf16 or fp32.")] = "int8",
    mode: Annotated[str, typer.Option(help="ptq, or qat: fine-tune with the integers' rounding.")] = "ptq",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Fine-tuning: 3 in mode qat; none in mode ptq, where it is QAT's control.")
    ] = None,
    calibration: Calibration = "train",
    calibrator: CalibratorOption = defaults.CALIBRATOR,
    images: CalibrationImages = None,
    equalization: Equalization = defaults.EQUALIZATION,
    keep_fp16: Annotated[
        str | None,
        typer.Option(help="Blocks to keep in FP16: names with commas, or auto:N for the N most harmful."),
    ] = None,
    weight_bits: WeightBits = 8,
    activation_bits: ActivationBits = 8,
    false_reject: Annotated[
        float | None, typer.Option(help="Target false-reject rate; 0.01, or the smallest attainable, when not given.")
    ] = None,
    review_rate: ReviewRate = None,
    name: Annotated[str | None, typer.Option(help="Engine name; the folder's when not given.")] = None,
    version: Annotated[str, typer.Option(help="Engine version.")] = "1",
) -> None:
    """Quantize a run and write a bundle that a server can load."""
    from build_engines.commands.quantize import quantize_run

    quantize_run(
        run,
        out,
        console=console,
        precision=precision,
        mode=mode,
        epochs=epochs,
        calibration=calibration,
        calibrator=calibrator,
        images=images,
        equalization=equalization,
        keep_fp16=keep_fp16,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        false_reject=false_reject,
        review_rate=review_rate,
        name=name,
        version=version,
    )


@app.command()
def rethreshold(
    bundle: BundleFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new version; an existing bundle is replaced.")],
    ledger: Annotated[
        str | None, typer.Option("--from", help="Ledger of a service that ran the bundle: its SQLite file, or a URL.")
    ] = None,
    false_reject: Annotated[
        float | None, typer.Option(help="Target false-reject rate; as it is when not given.")
    ] = None,
    review_rate: Annotated[
        float | None,
        typer.Option(min=0, help="As of quantize; as it is when not given, 0 for a verdict of two states."),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Engine version; the next number when not given.")] = None,
) -> None:
    """Set thresholds anew, from good parts that people confirmed in production, as a new version of a bundle."""
    from build_engines.commands.rethreshold import rethreshold_bundle
    from build_engines.rethresholding import Rates

    rethreshold_bundle(bundle, ledger, out, Rates(false_reject, review_rate), version, console)


@app.command()
def collect(
    ledger: Annotated[str, typer.Argument(metavar="LEDGER", help="A service's ledger: its SQLite file, or a URL.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The service's data folder, with its pictures.")],
    out: Annotated[Path, typer.Option("--out", help="Data folder to write, or to add to.")],
    test_share: Annotated[float, typer.Option(min=0, max=1, help="Share of good images kept for testing.")] = 0.2,
) -> None:
    """Copy the images that people reviewed to a data folder, for the next training."""
    from build_engines.commands.collect import collect_images

    collect_images(ledger, data_dir, out, test_share, console)


@app.command()
def sensitivity(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", help="Write all figures here as JSON.")] = None,
    calibration: Calibration = "train",
    calibrator: CalibratorOption = defaults.CALIBRATOR,
    images: CalibrationImages = None,
    equalization: Equalization = defaults.EQUALIZATION,
    weight_bits: WeightBits = 8,
    activation_bits: ActivationBits = 8,
) -> None:
    """Rank a run's blocks by the damage that quantizing each of them alone does; goes on where it was interrupted."""
    from build_engines.commands.sensitivity import measure_run

    measure_run(
        run,
        console=console,
        out=out,
        calibration=calibration,
        calibrator=calibrator,
        images=images,
        equalization=equalization,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )


@app.command()
def score(
    engine: Annotated[Path, typer.Option("--engine", help="Folder of a bundle.")],
    source: Annotated[
        Path, typer.Option("--input", help="Folder of images, or a CSV or Parquet file with a column 'path'.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write; one that was begun is gone on with.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="Bundle to compare with, such as the one that serves now.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", help="Cluster, HOST:PORT or auto; this machine alone when not given.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes with an engine each; one a core, or a GPU, when not given.")
    ] = None,
    backend: BackendOption = "auto",
) -> None:
    """Inspect an archive of images again, by one engine or beside another one; goes on where it was interrupted."""
    from build_engines.commands.score import score_images

    score_images(source, out, engine, against, backend=backend, ray=ray, workers=workers, console=console)


@app.command()
def evaluate(
    bundle: BundleFolder,
    data: Data,
    backend: BackendOption = "auto",
    json: Annotated[Path | None, typer.Option(help="Write all figures here.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the page here; beside --json when that is given.")] = None,
    threads: Threads = 0,
    record: Annotated[bool, typer.Option("--record", help="Write the means into the bundle too.")] = False,
) -> None:
    """Measure accuracy on the test images, through the engine."""
    from build_engines.commands.measure import evaluate_bundle

    evaluate_bundle(bundle, data, backend, json, page, threads, record, console)


@app.command()
def benchmark(
    bundle: BundleFolder,
    backend: BackendOption = "auto",
    image: Annotated[
        Path | None, typer.Option(help="Picture to decode; the bundle's golden one when not given.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=10, help="Timed repeats.")] = 100,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option(help="Write all figures here.")] = None,
) -> None:
    """Measure speed stage by stage, beside the same network in PyTorch FP32 eager in the same run."""
    from build_engines.commands.measure import benchmark_bundle

    benchmark_bundle(bundle, backend, image, repeats, threads, json, console)


@app.command("compile")
def compile_plan(
    bundle: BundleFolder,
    precision: Annotated[str | None, typer.Option(help="int8, fp16 or fp32; the bundle's own when not given.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="The largest batch that the plan takes.")] = 8,
    preferred_batch: Annotated[int, typer.Option(min=1, help="The batch that it is made fastest for.")] = 1,
    workspace: Annotated[int, typer.Option(min=1, help="Megabytes of the GPU's that a layer may use.")] = 1024,
    backend: Annotated[str, typer.Option(help="tensorrt or tensorrt_rtx.")] = "tensorrt",
    cache_dir: Annotated[
        Path | None, typer.Option("--cache-dir", help="Where plans are kept; in the bundle's folder when not given.")
    ] = None,
    compute_capability: Annotated[
        str | None, typer.Option(help="Of a GPU that is not here, as in 8.6; with tensorrt_rtx alone, and not run.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that the compiler says.")] = False,
) -> None:
    """Compile a bundle for the GPU of this device, and check the plan against the CPU."""
    from build_engines.commands.compile import compile_bundle

    given = {
        "--precision": precision,
        "--max-batch": max_batch,
        "--preferred-batch": preferred_batch,
        "--workspace": workspace,
        "--backend": backend,
        "--cache-dir": cache_dir,
        "--compute-capability": compute_capability,
    }
    arguments = [str(part) for name, value in given.items() if value is not None for part in (name, value)]
    compile_bundle(bundle, [*arguments, *(["--verbose"] if verbose else [])], console)


@app.command()
def info(bundle: BundleFolder) -> None:
    """Verify a bundle and say what is in it."""
    from build_engines.commands.inspect import show_bundle

    show_bundle(bundle, console)


@app.command()
def keygen(
    out: Annotated[Path, typer.Argument(metavar="KEY", help="File of the private key; KEY.pub is the public one.")],
) -> None:
    """Make a pair of keys for signing bundles."""
    from build_engines.commands.sign import generate_key

    generate_key(out, console)


@app.command()
def sign(
    bundle: BundleFolder,
    key: Annotated[Path, typer.Option("--key", help="File of the private key, as keygen wrote it.")],
) -> None:
    """Sign a bundle, for services that take none but signed ones."""
    from build_engines.commands.sign import sign_bundle

    sign_bundle(bundle, key, console)


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx")],
    form: Annotated[
        str, typer.Option(help="tensorrt, bundle (int8 weights), or auto: bundle where a bundle.json stands beside.")
    ] = "auto",
) -> None:
    """Check an ONNX graph against the rules of TensorRT 8.5."""
    from build_engines.commands.inspect import lint_file

    lint_file(file, form, console)


@app.command()
def export(
    bundle: BundleFolder,
    out: Annotated[Path, typer.Option("--out", help="ONNX file to write.")],
) -> None:
    """Write a bundle's network in the form TensorRT takes: float32 weights before Q/DQ."""
    from build_engines.commands.inspect import export_bundle

    export_bundle(bundle, out, console)


@app.command()
def roofline(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="Folder of a bundle; untrained methods when not given.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="One method, part by part; all when not given.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, int8, or int8-student: the teacher in FP32, as in the paper.")
    ] = None,
    teacher: Annotated[str, typer.Option(help="Architecture of the methods' teacher.")] = "resnet18",
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Height and width in pixels.")] = 256,
    share: Annotated[
        list[float] | None, typer.Option(min=0.01, max=1, help="Of the peaks; may be repeated. 0.25 and 0.45.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    layers: Annotated[int, typer.Option(min=0, help="The longest kernels to show, of a bundle or one method.")] = 10,
    mlperf: Annotated[bool, typer.Option("--mlperf", help="Estimate MLPerf's ResNet-50, beside what it took.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write all figures here.")] = None,
) -> None:
    """Estimate the time on a Jetson Xavier NX from operations and bytes of each layer; measures nothing."""
    from build_engines.commands.roofline import Question, estimate_bundle, estimate_methods, estimate_mlperf
    from build_engines.roofline import SHARES

    asked = Question(tuple(share) if share else SHARES, batch, layers)
    if mlperf:
        estimate_mlperf(json, console)
    elif bundle is not None:
        estimate_bundle(bundle, asked, json, console)
    else:
        estimate_methods(method, precision, teacher, image_size, asked, json, console)


@app.command()
def study(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; a study that stopped goes on there.")],
    methods: Annotated[str, typer.Option(help="Comma-separated methods.")] = "us,rd,stfpm,dcam",
    quick: Annotated[
        bool, typer.Option("--quick", help="Two classes, small images, few epochs and engines: minutes, not hours.")
    ] = False,
    teacher: Annotated[str | None, typer.Option(help="As of train.")] = None,
    teacher_weights: Annotated[str | None, typer.Option(help="As of train.")] = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Show the plan and stop.")] = False,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Show example maps on their test pictures, not alone.")
    ] = False,
) -> None:
    """Train and quantize by all methods and ways, measure them, and write what follows as a page."""
    from build_engines.commands.study import study_parts

    study_parts(
        data,
        out,
        methods=[name for name in methods.split(",") if name],
        console=console,
        quick=quick,
        teacher=teacher,
        teacher_weights=teacher_weights,
        plan_only=plan_only,
        with_images=with_images,
    )


@app.command()
def pretrain_teacher(
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="File to write.")],
    images: Annotated[int, typer.Option(min=1000, help="Generated images to train on.")] = 300_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the procedural teacher on generated textures and shapes, as the shipped one was."""
    from build_engines.networks.pretrain import pretrain_teacher as pretrain

    pretrain(out, images=images, seed=seed)


def main() -> None:
    """Run the command line: exit code 2 and one sentence for bad input, 130 when interrupted, no traceback."""
    if torchrun.place() is not None:
        torchrun.stop_like_ctrl_c()
    try:
        # Typer gives the exit code of Ctrl-C back instead of raising it.
        if app(standalone_mode=False) == INTERRUPTED:
            _interrupted()
    except TyperException as error:
        _fail(error.format_message())
    except UnispectError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except OSError as error:
        _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")


def _interrupted() -> NoReturn:
    if torchrun.has_the_word():
        print("Interrupted; call the same command again to go on (train: with --resume).", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _fail(message: str) -> NoReturn:
    if torchrun.has_the_word():
        print(message, file=sys.stderr)
    sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
