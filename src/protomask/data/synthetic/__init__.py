"""Synthetic instance-segmentation scenes: textured shapes that overlap, as images with exact visible masks."""
