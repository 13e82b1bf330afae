"""What a graph would take on disk if integers of fewer than 8 bits were packed."""

from onnx import ModelProto, TensorProto


def packed_bytes(model: ModelProto, weight_bits: int) -> int:
    """Bytes of a graph from `qdq.insert` with its int8 weights at `weight_bits` bits each; all else as it is stored.

    Scales, zero points, biases and weights in floating point are the rest.
    """
    stored = packed = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1:
            count = len(tensor.raw_data)
            stored += count
            packed += (count * weight_bits + 7) // 8
    return model.ByteSize() - stored + packed
