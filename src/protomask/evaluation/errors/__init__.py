"""Errors on a data set: their types, what each costs, faults of masks, boundary AP."""
