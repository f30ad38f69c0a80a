"""Prediction of very many images, on this machine or on a cluster, into Parquet files."""
