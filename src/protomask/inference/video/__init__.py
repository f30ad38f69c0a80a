"""Videos, cameras and streams as sources of frames, and videos as what is written."""
