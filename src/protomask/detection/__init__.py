"""From what a network says of candidates to instances, in NumPy: thresholds, NMS, masks."""
