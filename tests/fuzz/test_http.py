"""Requests made from the OpenAPI document: no server error, and every answer is one that the document knows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis")
app_module = pytest.importorskip("protomask.serve.app")

EXAMPLES = int(os.environ.get("PROTOMASK_FUZZ_EXAMPLES", "200"))
OPERATIONS = [
    ("/v1/predict", "post"),
    ("/v1/models", "get"),
    ("/v1/models/{name}/reload", "post"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
]


@pytest.fixture(scope="module")
def schema() -> Iterator[Any]:
    import uvicorn

    from protomask.serve.metrics import Metrics
    from protomask.serve.options import ServeOptions
    from protomask.serve.pool import ModelPool
    from serve.fake_model import load

    options, metrics = ServeOptions(), Metrics()
    pools = {name: ModelPool(name, name, load, options, metrics) for name in ("one", "two")}
    app = app_module.create_app(pools, options, metrics=metrics, log=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    server.should_exit = True
    thread.join()


def test_the_operations_are_those_of_the_document(schema: Any) -> None:
    found = {(operation.ok().path, operation.ok().method) for operation in schema.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [(*operation, "POSITIVE") for operation in OPERATIONS] + [("/v1/predict", "post", "NEGATIVE")],
)
def test_every_answer_is_one_that_the_document_knows(schema: Any, path: str, method: str, mode: str) -> None:
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

    operation = schema[path][method]
    count = EXAMPLES if "{" in path or path == "/v1/predict" else 1

    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    def run(case: Any) -> None:
        response = case.call()
        assert response.status_code < 500, response.text
        # Bytes that fit the document need not be an image, so what is refused is not looked at.
        case.validate_response(response, excluded_checks=[positive_data_acceptance, negative_data_rejection])

    run()
