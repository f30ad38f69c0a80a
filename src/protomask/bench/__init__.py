"""Measuring models: time, throughput, memory and AP."""
