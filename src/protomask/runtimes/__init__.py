"""Exported files behind `Predictor`: ONNX Runtime and OpenVINO."""
