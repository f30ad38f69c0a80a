"""Pages, sheets and diagrams about data sets, runs and models."""
