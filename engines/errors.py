"""What can go wrong at run time. Every message is one sentence that names the input and the mend."""


class UnispectError(Exception):
    """Base of all errors whose message is meant for the user."""


class BundleError(UnispectError):
    """A bundle is missing, altered, incomplete or of another schema."""


class SignatureError(BundleError):
    """A bundle is unsigned, altered or signed by somebody else, or a key for signing cannot be used."""


class TilingError(UnispectError):
    """Tiles do not fit the image, or the network's anomaly map does not fit the tiles."""


class GraphError(UnispectError):
    """An ONNX graph breaks a rule of TensorRT 8.5, or holds what this version cannot work with."""


class BackendError(UnispectError):
    """A backend is not installed, not usable on this machine, or failed while running."""


class EngineFailed(BackendError):
    """The GPU failed under an engine; only a new process can use it again."""


class NoPlan(BackendError):
    """No compiled plan fits this network, device and library; compiling makes one."""


class CompileError(UnispectError):
    """A network cannot be compiled into a plan, or the plan disagrees with the CPU and is not used."""


class ScoringError(UnispectError):
    """A threshold or part class was asked for that the held-out good scores cannot give."""


class UnknownPartClass(ScoringError):
    """The request names a part class that the bundle does not have."""


class ImageError(UnispectError):
    """Base of the errors of an uploaded or stored picture."""


class UnsupportedImage(ImageError):
    """The bytes are not a JPEG, PNG, BMP, WebP or TIFF picture."""


class ImageTooLarge(ImageError):
    """The header declares more pixels than the limit."""


class UndecodableImage(ImageError):
    """The type is known, yet the picture is truncated, broken, or of a shape that cannot be a part."""
