"""Tensors in safetensors files: 8 bytes of header length, JSON header, data. Needs nothing but torch."""

import ctypes
import json
import struct

import torch

DTYPES = {"F32": torch.float32, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path):
    """Tensors of a file by name."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, about in json.loads(raw[8 : 8 + length]).items():
        start, end = (8 + length + offset for offset in about["data_offsets"])
        flat = torch.frombuffer(bytearray(raw[start:end]), dtype=DTYPES[about["dtype"]])
        tensors[name] = flat.reshape(about["shape"])
    return tensors


def write(path, tensors):
    """Writes tensors by name; read() gives them back."""
    header, data = {}, bytearray()
    # Widest types first: readers want every tensor at a multiple of its type's size.
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
        tensor = tensor.detach().cpu().contiguous()
        start = len(data)
        data += ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        about = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**about, "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
