"""Start the server and end it in order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from protomask.errors import ProtomaskError
from protomask.serve.app import create_app
from protomask.serve.connections import connection_class
from protomask.serve.label_studio_host import LabelStudioHost
from protomask.serve.metrics import Metrics
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool
from protomask.serve.worker import Load


def serve(
    models: Mapping[str, str],
    load: Load,
    options: ServeOptions,
    *,
    host: str,
    port: int,
    api_key: str | None = None,
    label_studio: LabelStudioHost | None = None,
) -> int:
    """Load the models and answer requests until SIGTERM or Ctrl-C; requests that have begun are answered.

    SIGHUP loads every model again.

    Args:
        models: source of each model by its name in requests; the first is the default.
        load: `protomask.load`.
        options: limits and manners.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        api_key: key that requests must bring; None asks for none.
        label_studio: the Label Studio that images of its tasks are fetched from; None for none.

    Returns:
        0, once the server has ended in order.

    Raises:
        ProtomaskError: a model cannot be loaded, or the port cannot be used.

    """
    metrics = Metrics()
    pools: dict[str, ModelPool] = {}
    try:
        for name, source in models.items():
            pools[name] = ModelPool(name, source, load, options, metrics)
        app = create_app(pools, options, metrics=metrics, api_key=api_key, label_studio=label_studio)
        asyncio.run(_Server(make_config(app, options, host=host, port=port), pools).serve())
    except KeyboardInterrupt:
        pass  # when all requests are answered, uvicorn raises again the signal that ended it
    finally:
        for pool in pools.values():
            pool.close()
    return 0


def make_config(app: ASGIApp, options: ServeOptions, *, host: str, port: int) -> uvicorn.Config:
    """What uvicorn is to do.

    Args:
        app: the application.
        options: limits and manners.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.

    """
    return uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_keep_alive=5,
        timeout_graceful_shutdown=round(options.timeout + 1), ws_max_size=round(options.max_body * (1 << 20)),
        server_header=False, http=connection_class(options.head_timeout, options.body_timeout),
    )  # fmt: skip


class _Server(uvicorn.Server):
    """Says where it listens, and loads models again on SIGHUP."""

    def __init__(self, config: uvicorn.Config, pools: Mapping[str, ModelPool]) -> None:
        super().__init__(config)
        self._pools = pools
        self._reloading = ThreadPoolExecutor(1)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Begin to listen.

        Raises:
            ProtomaskError: the port cannot be used.

        """
        try:
            await super().startup(sockets)  # type: ignore[arg-type]
        except SystemExit as error:  # what uvicorn raises after it has logged the cause
            raise ProtomaskError(f"{self.config.host}:{self.config.port} cannot be listened on") from error
        with suppress(NotImplementedError, AttributeError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                address = f"[{host}]" if ":" in host else host
                print(f"serving {', '.join(self._pools)} on http://{address}:{port}", file=sys.stderr, flush=True)

    def _reload(self) -> None:
        for pool in self._pools.values():
            self._reloading.submit(_reload, pool)


def _reload(pool: ModelPool) -> None:
    try:
        pool.reload()
        print(f"serve: {pool.name} was loaded again", file=sys.stderr, flush=True)
    except ProtomaskError as error:
        print(f"serve: {pool.name} goes on with the old one: {error}", file=sys.stderr, flush=True)
