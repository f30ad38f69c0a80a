"""COCO instance annotations: strict about structure, tolerant of noise."""
