"""Images of a data set as training sees them: augmented, mixed, in batches."""
