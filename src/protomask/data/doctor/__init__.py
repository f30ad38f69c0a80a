"""The check of a data set: it finds everything wrong or odd at once, before training meets the first of it."""
