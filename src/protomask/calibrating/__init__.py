"""What the scores of a model mean, learned, judged and written into its file."""
