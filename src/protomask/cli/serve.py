"""`protomask serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from protomask.errors import ConfigError, MissingExtraError
from protomask.images.fetch import is_url
from protomask.serve.options import (
    API_KEY_VARIABLE,
    LABEL_STUDIO_KEY_VARIABLE,
    LABEL_STUDIO_URL_VARIABLE,
    Port,
    ServeOptions,
)

if TYPE_CHECKING:
    from protomask.serve.label_studio_host import LabelStudioHost

EXAMPLE = "protomask serve yolact_nano nuclei --port 8080"
POSITIONAL = ("models",)


def run(models: list[str] | None = None, *, options: ServeOptions, host: str = "127.0.0.1", port: Port = 8080) -> int:
    """Serve models over HTTP, with a page to look with.

    Args:
        models: shipped models, zoo names, weights files, run folders or exported files; the shipped default if none is
            given. Requests that name no model use the first.
        options: limits and manners.
        host: address to listen on; 0.0.0.0 for all addresses of this machine.
        port: port to listen on; 0 chooses a free one.
    """
    from protomask.api import load
    from protomask.defaults import DEFAULT_MODEL
    from protomask.models.naming import find_model

    named = name_models(models or [DEFAULT_MODEL])
    for source in named.values():
        find_model(source)
    try:
        from protomask.serve.run import serve
    except ImportError as error:
        raise MissingExtraError(f"serving needs {error.name}: pip install 'protomask[serve]'") from error
    key = os.environ.get(API_KEY_VARIABLE) or None
    return serve(named, load, options, host=host, port=port, api_key=key, label_studio=_label_studio())


def _label_studio() -> LabelStudioHost | None:
    from protomask.serve.label_studio_host import LabelStudioHost

    url = os.environ.get(LABEL_STUDIO_URL_VARIABLE, "").rstrip("/")
    if not url:
        return None
    if not is_url(url):
        raise ConfigError(f"{LABEL_STUDIO_URL_VARIABLE}: expected an http or https address, got {url!r}")
    return LabelStudioHost(url, os.environ.get(LABEL_STUDIO_KEY_VARIABLE, ""))


def name_models(models: list[str]) -> dict[str, str]:
    """Name in requests of each model: its zoo name, or the name of its file or folder.

    Raises:
        ConfigError: two have one name.

    """
    named: dict[str, str] = {}
    for source in models:
        name = Path(source).stem if Path(source).suffix else Path(source).name
        if name in named:
            raise ConfigError(f"models: expected names that differ, got {name} twice: {named[name]} and {source}")
        named[name] = source
    return named
