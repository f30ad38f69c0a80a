"""The kinds of exported files: their names and endings, and what opens them."""

from __future__ import annotations

SUFFIXES = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "pt2": ".pt2",
    "aotinductor": ".pt2",
    "litert": ".tflite",
    "executorch": ".pte",
    "ncnn": ".ncnn.param",
}
"""By the name of the format, as `protomask export` takes it; of two with one ending the first is meant by it."""
TORCH_SUFFIXES = (".pt2", ".pte")
"""Endings of files that PyTorch runs."""
