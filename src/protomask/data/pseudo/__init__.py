"""Labels that a model gives to the images of a data set, for another round of training."""
