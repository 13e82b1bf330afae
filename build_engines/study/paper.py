"""What the reference papers report, to stand beside what is measured here.

P1: arXiv 2407.02968, MVTec AD (15 classes), Jetson Xavier NX and Xeon W-2265. P2: arXiv 2405.06467 (DCAM).
AUROC is the mean over classes, time in milliseconds, size in MB.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """P1 table 1: hyper-parameters."""

    batch_size: int
    epochs: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    image_size: int = 256


@dataclass(frozen=True)
class Measured:
    """One engine of P1."""

    milliseconds: float
    auroc: float
    megabytes: float


TABLE_1 = {
    "us": Training(1, 150, "adam", 1e-4, 1e-5),
    "rd": Training(16, 200, "adam", 5e-3, 1e-5),
    "stfpm": Training(32, 398, "sgd", 0.4, 1e-4),
}

# AUROC of one-class models, and of one model of 15 classes.
TABLE_2 = {"us": (0.76, 0.79), "rd": (0.98, 0.95), "stfpm": (0.97, 0.94)}

# FP32 on the Xeon: milliseconds there; on the Jetson, see TABLE_5.
TABLE_3 = {"us": Measured(18274, 0.79, 26.8), "rd": Measured(1365.4, 0.96, 644.2), "stfpm": Measured(275, 0.94, 88)}
JETSON_MILLISECONDS = {"us": 1392.97, "rd": 166.60, "stfpm": 52.14}

# INT8 PTQ by PyTorch on the Xeon: calibrated with training images, and with random normal data.
TABLE_4 = {
    "us": (Measured(13968.88, 0.63, 11.8), Measured(13968.88, 0.64, 11.8)),
    "rd": (Measured(1018, 0.50, 406.42), Measured(1018, 0.75, 406.42)),
    "stfpm": (Measured(234.9, 0.75, 55.12), Measured(234.9, 0.83, 55.12)),
}

# On the Jetson, teacher in FP32: PyTorch FP32, TensorRT FP16, TensorRT INT8.
TABLE_5 = {
    "us": (Measured(1392.97, 0.79, 26.8), Measured(699.24, 0.79, 22), Measured(591.17, 0.57, 15.4)),
    "rd": (Measured(166.60, 0.96, 645.1), Measured(19.68, 0.82, 526.8), Measured(18.02, 0.82, 313.64)),
    "stfpm": (Measured(52.14, 0.94, 88), Measured(24.98, 0.94, 52.7), Measured(24.87, 0.92, 48.5)),
}

# INT8 by PyTorch on the Xeon: PTQ with random normal data, and QAT.
TABLE_6 = {
    "us": (Measured(13968.88, 0.64, 11.8), Measured(14607.53, 0.60, 11.8)),
    "rd": (Measured(1018, 0.75, 406.42), Measured(1001, 0.96, 406.42)),
    "stfpm": (Measured(234.9, 0.83, 55.12), Measured(235.2, 0.92, 55.12)),
}

# P2: the unified model of 15 classes, and its gain over the unified STFPM.
DCAM_AUROC, DCAM_PRO, DCAM_GAIN = 0.9520, 0.8981, 0.0392
