"""A PyTorch network behind `Predictor`."""
