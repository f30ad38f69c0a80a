"""What the page on deployment and the container file rely on is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from protomask.serve.options import ServeOptions

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
PAGE = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The objects of the cluster by their kinds."""
    return {one["kind"]: one for one in yaml.safe_load_all(blocks("yaml")[0])}


def instructions(name: str) -> list[str]:
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def test_the_container_gets_what_it_copies_and_no_more() -> None:
    sources = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}
    assert all((REPOSITORY / source).exists() for source in sources)


def test_the_container_starts_the_server() -> None:
    (entry,) = map(json.loads, instructions("ENTRYPOINT"))
    assert entry[:2] == ["protomask", "serve"]
    port = instructions("EXPOSE")[0]
    assert entry[entry.index("--port") + 1] == port
    assert f":{port}/readyz" in DOCKERFILE.read_text(encoding="utf-8")


def test_options_of_the_server_are_options(cluster: dict[str, Any]) -> None:
    (container,) = cluster["Deployment"]["spec"]["template"]["spec"]["containers"]
    start = next(line for block in blocks("ini") for line in block.splitlines() if line.startswith("ExecStart="))
    given = {word for word in [*container["args"], *start.split()] if word.startswith("--")}
    known = {f"--{name.replace('_', '-')}" for name in ServeOptions.help()} | {"--port", "--host"}
    assert given
    assert given <= known


def test_the_autoscaler_asks_for_what_the_adapter_offers_and_the_server_has(cluster: dict[str, Any]) -> None:
    pytest.importorskip("prometheus_client")
    from protomask.serve.metrics import Metrics

    metrics = Metrics()
    metrics.watch([])
    metrics.restart("a")
    metrics.request("/", 429, 1.0)
    text = metrics.text().decode()
    (metric,) = cluster["HorizontalPodAutoscaler"]["spec"]["metrics"]
    wanted = metric["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load(blocks("yaml")[1])["rules"]
    assert rule["seriesQuery"].startswith(wanted + "{")
    named = set(re.findall(r"protomask_[a-z_]+", PAGE))
    assert named >= {wanted, "protomask_worker_restarts_total", "protomask_requests_total"}
    assert all(f"# TYPE {name}" in text or f"\n{name}{{" in text for name in named)


def test_a_pod_has_time_to_answer_what_has_begun(cluster: dict[str, Any]) -> None:
    pod = cluster["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > ServeOptions().timeout + wait
    stop = next(int(line.split("=")[1]) for line in blocks("ini")[0].splitlines() if line.startswith("TimeoutStopSec"))
    assert stop > ServeOptions().timeout


def test_the_proxy_takes_bodies_as_large_as_the_server_does() -> None:
    assert f"client_max_body_size {ServeOptions().max_body:.0f}m;" in blocks("nginx")[0]
