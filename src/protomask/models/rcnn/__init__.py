"""Mask R-CNN (He et al. 2017) and Mask Scoring R-CNN (Huang et al. 2019)."""
