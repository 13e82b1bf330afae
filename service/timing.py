"""Where the time of an inspection goes."""

from dataclasses import dataclass

STAGES = ("decode", "queue", "inference", "postprocess", "total")


@dataclass(slots=True)
class Timing:
    """Seconds per stage.

    Attributes:
        decode: from the picture's bytes to pixels at the model's size.
        queue: waiting, for a decoding thread and for the engine.
        inference: the network.
        postprocess: the verdict, and the heatmap where one was asked for.
        total: from acceptance to the result; at least the sum of the others.
    """

    decode: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    postprocess: float = 0.0
    total: float = 0.0
