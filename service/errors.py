"""What the service itself refuses. Every message is one sentence that names the input and the mend."""

from engines.errors import UnispectError


class StartError(UnispectError):
    """The service cannot start: a wrong setting, a folder it cannot write, a port it cannot have."""


class NotReady(UnispectError):
    """The engine is starting, stopping or failed."""


class QueueFull(UnispectError):
    """As many inspections as the queue takes are waiting."""


class BodyTooLarge(UnispectError):
    """The request's body is above the limit."""


class WrongContentType(UnispectError):
    """The request's body is announced as something that is no image and no form."""


class InvalidForm(UnispectError):
    """A multipart body that is broken or has no image in the field `file`."""
