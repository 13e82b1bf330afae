"""From a float ONNX graph to INT8: calibration, scales, Q/DQ placement."""
