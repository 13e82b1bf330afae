"""Every setting of the service, from flags, from `UNISPECT_*` in the environment, or by default, in this order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from engines.backends import BackendName
from engines.images import DEFAULT_MAX_PIXELS
from service.errors import StartError

PROGRAM = "inspection-service"
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class Settings(BaseSettings):
    """Serve one engine over HTTP. Each flag can be given as UNISPECT_<NAME> in the environment instead."""

    model_config = SettingsConfigDict(
        env_prefix="UNISPECT_",
        frozen=True,
        cli_prog_name=PROGRAM,
        cli_kebab_case=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    bundle: Folder = Field(description="Folder of the engine to serve, as `build-engines quantize` wrote it.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 means every network of the machine.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one and logs it.")
    backend: BackendName = Field("auto", description="Inference library; auto takes the fastest one usable here.")
    serve_while_building: Literal["none", "openvino", "onnxruntime"] = Field(
        "none",
        description="Inference library that serves while the engine is compiled for this GPU, for minutes on the first "
        "start; none answers 503 until then.",
    )
    data_dir: Folder = Field(
        Path("~/.local/share/unispect"),
        validate_default=True,
        description="Folder for all that the service writes; compiled networks are kept in its subfolder cache.",
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of the inference library; 0 means one per core.")
    decode_workers: int = Field(2, ge=1, le=64, description="Threads that decode images and draw heatmaps.")
    max_body_bytes: int = Field(32 * 2**20, ge=1024, description="Largest request body in bytes.")
    max_pixels: int = Field(
        DEFAULT_MAX_PIXELS, ge=64, le=200_000_000, description="Most pixels an image may declare; more is refused."
    )
    max_queue: int = Field(
        64, ge=1, le=100_000, description="Most inspections accepted and not yet answered; more get 503."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged; info includes one line per request."
    )
    drain_seconds: int = Field(
        30, ge=0, le=3600, description="Longest time in seconds that a stopping service takes to finish its requests."
    )
    sysfs_root: Folder = Field(Path("/sys"), description="The kernel's /sys, from which a Jetson's sensors are read.")


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings from flags and environment. Prints the help and exits where `--help` is among the arguments.

    Raises:
        StartError: an unknown flag, a wrong value, or no bundle.
    """
    try:
        return Settings(_cli_parse_args=list(arguments))
    except SettingsError as error:
        reason = str(error).removeprefix("error parsing CLI: ")
        raise StartError(f"The flags are wrong ({reason}); {PROGRAM} --help lists them.") from error
    except ValidationError as error:
        raise StartError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    variable, flag = f"UNISPECT_{name.upper()}", f"--{name.replace('_', '-')}"
    if first["type"] == "missing":
        return f"The setting {name} is missing; give {flag} or set {variable}."
    return f"The setting {name} is {str(first['input'])!r}: {first['msg']}; mend {flag} or {variable}."
