"""Objects followed through the frames of a video: a tracker that compares masks, and others behind its interface."""
