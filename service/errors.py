"""What the service itself refuses. Every message is one sentence that names the input and the mend."""

from engines.errors import UnispectError


class StartError(UnispectError):
    """The service cannot start: a wrong setting, a folder it cannot write, a port it cannot have."""


class FetchFailed(StartError):
    """The archive of the bundle to serve cannot be had from its address."""


class NotReady(UnispectError):
    """The engine is starting, stopping or failed."""


class ComeAgain(UnispectError):
    """Base of what is refused now and may be asked for again.

    Args:
        wait_seconds: until it is worth coming again.
    """

    def __init__(self, message: str, wait_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class QueueFull(ComeAgain):
    """As many inspections are waiting as the queue takes, or as can be answered in time."""


class QuotaExceeded(ComeAgain):
    """A client asked more often than its quota allows."""


class TooManyAttempts(ComeAgain):
    """Too many wrong keys came from one address."""


class KeyFileError(UnispectError):
    """The file of the API keys cannot be used, or what was asked of it cannot be done."""


class Unauthenticated(UnispectError):
    """A request without a key, or with one that opens nothing."""


class Forbidden(UnispectError):
    """A request that its key's role does not allow, or that a page of another origin made."""


class BodyTooSlow(UnispectError):
    """The request's body takes longer to arrive than it may."""


class DeadlinePassed(UnispectError):
    """An accepted inspection waited for longer than its answer is of use."""

    @classmethod
    def in_queue(cls, seconds: float) -> "DeadlinePassed":
        """After so many seconds."""
        return cls(f"The inspection waited {seconds:.2f} s, longer than its deadline; send images more slowly.")


class InvalidHeader(UnispectError):
    """A request's header has a value that it cannot have."""


class InvalidArchive(UnispectError):
    """An upload that is no archive of one bundle."""


class UnknownEngine(UnispectError):
    """The store has no engine of that name and version."""


class EngineExists(UnispectError):
    """The store has another engine of that name and version, or one that is in use."""


class ActivationFailed(UnispectError):
    """An engine cannot be used on this machine; the one that served still does."""


class StoreFull(UnispectError):
    """The disk takes no more engines."""


class ActivationRunning(UnispectError):
    """Another engine is being activated."""


class LedgerFailed(UnispectError):
    """What was to be recorded is not in the ledger's database."""


class UnknownInspection(UnispectError):
    """The ledger has no inspection of this id."""


class PictureNotKept(UnispectError):
    """The policy does not keep this inspection's picture, or no longer."""


class TooManyReaders(UnispectError):
    """As many programs listen to the live inspections as may."""


class BodyTooLarge(UnispectError):
    """The request's body is above the limit."""


class WrongContentType(UnispectError):
    """The request's body is announced as something that is no image and no form."""


class InvalidForm(UnispectError):
    """A multipart body that is broken or has no image in the field `file`."""


class InvalidInferRequest(UnispectError):
    """A request that is not of the Open Inference Protocol, or asks for what the model does not have."""


class UnknownModel(UnispectError):
    """A model or version of the Open Inference Protocol that is not served."""
