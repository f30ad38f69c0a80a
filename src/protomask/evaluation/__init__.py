"""COCO evaluation of boxes and masks, of result files and of predictors, and the quality of mask scores."""
