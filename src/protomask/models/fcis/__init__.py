"""FCIS, fully convolutional instance-aware semantic segmentation (Li et al. 2017)."""
