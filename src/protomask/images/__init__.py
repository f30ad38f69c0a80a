"""Images in NumPy: decode, fetch, resize, draw."""
