"""Names of the models that are taken where none is named."""

DEFAULT_MODEL = "everyday"
"""What predicts."""
DEFAULT_NETWORK = "yolact_nano"
"""What is built and trained, and what data is checked for."""
