"""Masks in NumPy: grids of probabilities, runs of pixels, run-length codes, polygons."""
