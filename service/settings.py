"""Every setting of the service, from flags, from `UNISPECT_*` in the environment, or by default, in this order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from engines.backends import BackendName
from engines.images import DEFAULT_MAX_PIXELS
from service.errors import StartError
from service.picture_policy import PicturePolicy

PROGRAM = "inspection-service"
# The text is kept: the flags' parser would make flags of a policy's members.
_Pictures = Annotated[str, AfterValidator(lambda text: PicturePolicy.parse(text) and text)]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class Settings(BaseSettings):
    """Serve one engine over HTTP. Each flag can be given as UNISPECT_<NAME> in the environment instead.

    Other commands: inspection-service post FILE... sends images to a running service, inspection-service keys has API
    keys made and revoked.
    """

    model_config = SettingsConfigDict(
        env_prefix="UNISPECT_",
        frozen=True,
        cli_prog_name=PROGRAM,
        cli_kebab_case=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    bundle: Folder | None = Field(
        None, description="Folder of the engine to serve, as `build-engines quantize` wrote it."
    )
    bundle_url: str = Field(
        "",
        repr=False,
        description="Address of that folder as a ZIP file, which goes before it: s3://bucket/key, https://host/path or "
        "file:///folder/file; asked at each start, and what was fetched last serves where it does not answer. Empty "
        "is none.",
    )
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
    keys_dir: Folder | None = Field(
        None,
        description="Folder of the file keys.json with the API keys, as where a fleet has one for all; by default the "
        "data folder.",
    )
    ledger: str | None = Field(
        None,
        description="Database of all inspections, as sqlite:////folder/ledger.sqlite3 or "
        "postgresql://user@host/database; by default ledger.sqlite3 in the data folder.",
    )
    ledger_sync: Literal["full", "normal"] = Field(
        "full",
        description="full: an answered inspection survives a power cut; normal: only the death of the service, which "
        "saves the wait for the disk.",
    )
    repeat_seconds: float = Field(
        600,
        ge=0,
        le=86_400,
        description="Time in which an image sent again with the same part_id gets the recorded result; 0 is never.",
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of the inference library; 0 means one per core.")
    decode_workers: int = Field(2, ge=1, le=64, description="Threads that decode images and draw heatmaps.")
    max_body_bytes: int = Field(32 * 2**20, ge=1024, description="Largest request body in bytes.")
    pictures: _Pictures = Field(
        "fails",
        description="Inspections whose picture and map are kept: none, fails, all, or sample:SHARE for the fails and "
        "that share of the passes.",
    )
    pictures_quota_mb: int = Field(
        4096, ge=1, description="Most megabytes of all kept pictures and maps; above it the oldest go."
    )
    pictures_days: float = Field(90, gt=0, le=36_500, description="Days after which a picture and its map are deleted.")
    pictures_reserve_mb: int = Field(
        1024, ge=0, description="Megabytes of the disk left free: with less, no pictures are kept."
    )
    max_bundle_bytes: int = Field(
        2**30, ge=2**20, description="Largest bundle in bytes that may be uploaded, packed and unpacked."
    )
    max_pixels: int = Field(
        DEFAULT_MAX_PIXELS, ge=64, le=200_000_000, description="Most pixels an image may declare; more is refused."
    )
    max_batch: int = Field(
        0, ge=0, le=1024, description="Images in one run of the network; 0 is what the inference library gains from."
    )
    max_delay_ms: float = Field(
        2.0,
        ge=0,
        le=1000,
        description="Longest time that a batch waits for images being decoded; a lone one never waits.",
    )
    deadline_ms: int = Field(
        10_000, ge=1, le=600_000, description="Time in which an inspection is answered, or refused at once with 503."
    )
    max_queue: int = Field(
        64, ge=1, le=100_000, description="Most inspections accepted and not yet answered; more get 503."
    )
    max_images: int = Field(64, ge=1, le=1024, description="Most images in one request that takes several.")
    body_seconds: float = Field(
        30.0, gt=0, le=3600, description="Longest time in seconds that a request's body may take to arrive."
    )
    header_seconds: float = Field(
        10.0, gt=0, le=3600, description="Longest time in seconds that a request's headers may take to arrive."
    )
    max_header_bytes: int = Field(16 * 2**10, ge=1024, le=2**20, description="Most bytes of a request's headers.")
    max_headers: int = Field(100, ge=16, le=10_000, description="Most headers of a request.")
    max_connections: int = Field(
        512, ge=8, le=100_000, description="Most open connections; for a new one the one that idled longest goes."
    )
    quota_per_second: float = Field(
        0.0, ge=0, le=1e6, description="Images a second that each client may send; more get 429, 0 is no limit."
    )
    tls_certificate: Folder | None = Field(
        None, description="PEM file of the server's certificate and those that vouch for it; serves HTTPS."
    )
    tls_key: Folder | None = Field(None, description="PEM file of its key; not needed where that is beside it.")
    tls_client_ca: Folder | None = Field(
        None, description="PEM file of who vouches for clients; one without such a certificate cannot connect."
    )
    trusted_keys: Folder | None = Field(
        None, description="PEM file of public keys; a bundle that none of them signed is refused."
    )
    otlp_endpoint: str = Field(
        "", description="Address of an OpenTelemetry collector that gets spans by OTLP over HTTP; empty makes none."
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
        StartError: an unknown flag or a wrong value.
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
    return f"The setting {name} is {str(first['input'])!r}: {first['msg']}; mend {flag} or {variable}."
