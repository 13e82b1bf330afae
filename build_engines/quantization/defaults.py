"""What quantization does where nothing else is asked; apart, so that the command line says it without libraries."""

CALIBRATOR = "mse"
# How much of a channel's range equalization moves into the weights; the rest would coarsen them (SmoothQuant, arXiv
# 2211.10438).
EQUALIZATION = 0.5
