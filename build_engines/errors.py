"""Errors of the builder; like the runtime's, each message is one sentence for the user."""

from engines.errors import UnispectError


class DataError(UnispectError):
    """The data folder is not in MVTec AD layout, or holds too little, or unreadable images."""


class WeightsError(UnispectError):
    """Teacher weights are missing, of another architecture, or not what their digest says."""


class RunError(UnispectError):
    """A training run is missing, unfinished, or was made with other settings."""


class RecipeError(UnispectError):
    """A recipe, or an option that stands for one of its keys, has what is unknown, not allowed or contradictory."""


class QuantizationError(UnispectError):
    """What was asked of quantization cannot be done with this network."""


class StudyError(UnispectError):
    """A study's folder is of something else, or nothing could be measured."""


class LedgerError(UnispectError):
    """A service's ledger is missing, unreadable, or holds too little of what was asked."""


class ReinspectionError(UnispectError):
    """An archive or its manifest cannot be read, no cluster answers, or the output is of something else."""
