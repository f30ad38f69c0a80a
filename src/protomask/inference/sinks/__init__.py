"""Where frames and what was found in them go: a class per kind of output."""
