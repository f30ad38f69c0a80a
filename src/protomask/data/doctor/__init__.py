"""What is wrong or odd in a data set, all of it at once, before training meets the first of it."""
