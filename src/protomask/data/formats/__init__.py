"""Data sets in the formats people have: each is read into, and written from, the records of :mod:`.records`."""
