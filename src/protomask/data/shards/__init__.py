"""COCO data sets as Parquet files, which training reads in a stream: for sets that outgrow one disk."""
