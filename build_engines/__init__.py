"""The offline builder: data, training, quantization, export and evaluation of engines."""
