"""The modern prototype models: points instead of anchors, and scores that are the expected quality of the mask."""
