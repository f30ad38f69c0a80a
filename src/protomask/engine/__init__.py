"""Training: settings, optimizer and schedule, the training step, and a run from start to end."""
