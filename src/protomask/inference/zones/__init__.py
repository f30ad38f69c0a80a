"""Zones and lines: which tracks are inside, who enters, leaves and crosses, by the pixels of their masks."""
