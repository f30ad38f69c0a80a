"""Every error a user can cause or meet: one tree, so one ``except ProtomaskError`` catches all."""

from __future__ import annotations


class ProtomaskError(Exception):
    """Base of all errors raised on purpose by protomask."""


class ConfigError(ProtomaskError, ValueError):
    """A setting, argument or flag has a value that cannot work; the message names it and what was expected."""


class DataError(ProtomaskError, ValueError):
    """An image, annotation or result file is wrong; the message names the file and the image or annotation id."""


class CheckpointError(ProtomaskError):
    """Weights cannot be found, read or matched to the model; the message lists the keys that differ."""


class UnknownModelError(ConfigError, CheckpointError):
    """A word that names no model; the message says what is spelled almost like it."""


class ExportError(ProtomaskError):
    """An exported file does not do what the model does; the message states the difference. Nothing is left behind."""


class MissingExtraError(ProtomaskError, ImportError):
    """An optional dependency is not installed; the message says which extra brings it."""
