"""Images of a data set as training sees them: varied, mixed, in batches."""
