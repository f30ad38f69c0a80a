"""One file that does everything: from an image's bytes to boxes, classes, scores and masks, outside PyTorch."""
