"""What a compiled plan is known by: all that decides what it computes and where it runs."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engines.backends.base import LibraryName
from engines.bundle import Digest, Precision
from engines.golden import Agreement

PlanPrecision = Literal["fp32", "fp16", "int8"]

# Of the graphs that are given to the compiler: raised with every change of `engines.tensorrt_form` or
# `engines.half_precision` that makes another graph of the same bundle.
FORM = 1


# What a plan of a bundle computes in where nothing else is asked for. Volta has no bfloat16, and FP16 not its range.
_PRECISIONS: Mapping[Precision, PlanPrecision] = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp32", "int8": "int8"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Profile(_Record):
    """Which batches a plan takes, 1 to `largest`, and the one that it is made fastest for.

    Raises ValidationError where `preferred` is above `largest`.
    """

    preferred: int = Field(default=1, ge=1)
    largest: int = Field(default=8, ge=1, le=1024)

    @model_validator(mode="after")
    def _ordered(self) -> "Profile":
        if self.preferred > self.largest:
            raise ValueError(f"the preferred batch {self.preferred} is above the largest, {self.largest}")
        return self


class PlanKey(_Record):
    """All that decides what a plan computes and where it runs.

    Attributes:
        onnx_sha256: of the bundle's network.
        version: of the library, in full.
        compute_capability: of the GPU, as in 7.2.
        form: see `FORM`.
    """

    onnx_sha256: Digest
    library: LibraryName
    version: str
    compute_capability: str = Field(pattern=r"^\d+\.\d+$")
    precision: PlanPrecision
    profile: Profile
    form: int = FORM

    @property
    def digest(self) -> str:
        """32 hexadecimal digits, the plan's name."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


class PlanRecord(_Record):
    """The sidecar.

    Attributes:
        size, sha256: of the plan's file.
        seconds: that compiling took.
        agreement: with the CPU on the golden image; None where the plan has not been run.
    """

    key: PlanKey
    size: int = Field(ge=1)
    sha256: Digest
    created: datetime
    seconds: float = Field(ge=0)
    workspace_bytes: int = Field(ge=0)
    agreement: Agreement | None = None

    @classmethod
    def of(
        cls, plan: bytes, key: PlanKey, seconds: float, workspace_bytes: int, agreement: Agreement | None = None
    ) -> "PlanRecord":
        """The record of a plan that was compiled just now."""
        return cls(
            key=key,
            size=len(plan),
            sha256=hashlib.sha256(plan).hexdigest(),
            created=datetime.now(UTC),
            seconds=seconds,
            workspace_bytes=workspace_bytes,
            agreement=agreement,
        )


def plan_precision(precision: Precision) -> PlanPrecision:
    """What a bundle of this precision is compiled to by default."""
    return _PRECISIONS[precision]


def same_but(one: PlanKey, other: PlanKey, *fields: str) -> bool:
    """Whether two keys differ in nothing else than the fields named."""
    return one.model_dump(exclude=set(fields)) == other.model_dump(exclude=set(fields))


def difference(there: PlanKey, wanted: PlanKey) -> list[str]:
    """What keeps one plan from being another, of the same network: a clause each, the weightiest first."""
    device = f"compute capability {there.compute_capability}, and this one has {wanted.compute_capability}"
    library = f"{there.library} {there.version}, and this is {wanted.library} {wanted.version}"
    clauses = {
        "compute_capability": f"the one there is was compiled for a GPU of {device}",
        "version": f"the one there is was compiled by {library}",
        "form": "the one there is was compiled from the graph of another version of unispect",
        "precision": f"the one there is computes in {there.precision}",
        "profile": f"the one there is takes batches of up to {there.profile.largest}",
    }
    return [clause for field, clause in clauses.items() if getattr(there, field) != getattr(wanted, field)]
