"""Metrics of a server for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from protomask.serve.pool import ModelPool

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server; those of its queues are read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("protomask_requests", "Answered requests", ["path", "status"], registry=self.registry)
        self._seconds = Histogram(
            "protomask_request_seconds", "Time from a request to its answer", ["path"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._images = Counter("protomask_images", "Images given to a model", ["model"], registry=self.registry)
        self._batches = Histogram(
            "protomask_batch_images", "Images that went through a network together", ["model"],
            buckets=(1, 2, 4, 8, 16, 32), registry=self.registry,
        )  # fmt: skip
        self._restarts = Counter("protomask_worker_restarts", "Workers that died", ["model"], registry=self.registry)
        self._abandoned = Counter("protomask_abandoned_requests", "Clients that went away", registry=self.registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def abandoned(self) -> None:
        """A client went away before its answer."""
        self._abandoned.inc()

    def batch(self, model: str, size: int) -> None:
        """So many images went to a worker."""
        self._images.labels(model).inc(size)
        self._batches.labels(model).observe(size)

    def restart(self, model: str) -> None:
        """A worker died and is started again."""
        self._restarts.labels(model).inc()

    def watch(self, pools: Iterable[ModelPool]) -> None:
        """Report the queues of these models."""
        self.registry.register(_Queues(list(pools)))

    def text(self) -> bytes:
        """Everything in the exposition format of Prometheus."""
        return generate_latest(self.registry)


class _Queues:
    """Collects what pools say of themselves at the moment."""

    def __init__(self, pools: list[ModelPool]) -> None:
        self._pools = pools

    def collect(self) -> Iterable[GaugeMetricFamily]:
        waiting = GaugeMetricFamily("protomask_waiting_images", "Images in the queue", labels=["model"])
        ready = GaugeMetricFamily("protomask_ready_workers", "Workers that can take a batch", labels=["model"])
        for pool in self._pools:
            waiting.add_metric([pool.name], pool.waiting)
            ready.add_metric([pool.name], pool.ready_workers)
        return [waiting, ready]
