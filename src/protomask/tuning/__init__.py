"""Search for the settings of a training run that learn a data set best."""
