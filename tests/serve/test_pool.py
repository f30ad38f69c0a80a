"""Queues and workers: what happens when there is too much, when workers die, and when models change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from protomask.detection.options import PredictOptions
from protomask.errors import ProtomaskError
from protomask.serve.jobs import Answer, Job, Task
from protomask.serve.options import ServeOptions
from protomask.serve.pool import ModelPool, OverloadedError
from serve.conftest import image, wait_until
from serve.fake_model import DEADLY, SLOW, load


class Counts:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.restarts = 0

    def batch(self, model: str, size: int) -> None:
        self.batches.append(size)

    def restart(self, model: str) -> None:
        self.restarts += 1


def job(red: int = 5, seconds: float = 20.0, **options: Any) -> Job:
    task = Task(image=image(red), name="a.png", options=PredictOptions(**options), max_pixels=10_000)
    return Job(task=task, deadline=time.monotonic() + seconds)


def result(one: Job) -> Answer:
    return one.future.result(timeout=20)


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def pool(counts: Counts, request: pytest.FixtureRequest) -> Iterator[ModelPool]:
    made = ModelPool("fake", "fake", load, ServeOptions(**getattr(request, "param", {})), counts)
    yield made
    made.close()


def test_many_images_at_once_are_each_answered_rightly(pool: ModelPool, counts: Counts) -> None:
    reds = [red for red in range(1, 24) if red != DEADLY]
    jobs = [job(red) for red in reds]
    for one in jobs:
        pool.submit([one])
    for red, one in zip(reds, jobs, strict=True):
        (instance,) = json.loads(result(one).content)["instances"]
        assert instance["box"] == [0, 0, red, red]
    assert sum(counts.batches) == len(jobs)
    assert max(counts.batches) <= 4


def test_images_with_other_options_are_other_batches(pool: ModelPool, counts: Counts) -> None:
    jobs = [job(SLOW), job(SLOW), *(job(5, score_threshold=0.1 * (index % 2)) for index in range(4))]
    pool.submit(jobs)
    assert all(result(one).content for one in jobs)
    assert counts.batches.count(1) >= 4


@pytest.mark.parametrize("pool", [{"max_waiting": 3}], indirect=True)
def test_what_does_not_fit_into_the_queue_is_refused_as_a_whole(pool: ModelPool) -> None:
    slow = [job(SLOW, score_threshold=0.01 * index) for index in range(2)]
    pool.submit(slow)
    wait_until(lambda: pool.waiting == 0)
    pool.submit([job(), job()])
    with pytest.raises(OverloadedError, match="fake: 2 images wait, of at most 3") as refused:
        pool.submit([job(), job()])
    assert refused.value.retry_after >= 1
    assert pool.waiting == 2
    assert all(result(one).content for one in slow)


def test_a_worker_that_dies_is_replaced_and_its_task_tried_once_more(pool: ModelPool, counts: Counts) -> None:
    pool.submit([deadly := job(DEADLY)])
    answer = result(deadly)
    assert (answer.status, answer.error) == (503, "a worker died on this request")
    wait_until(lambda: pool.ready_workers == 1)
    assert counts.restarts == 2
    pool.submit([after := job(6)])
    assert result(after).content


def test_an_innocent_task_survives_the_death_of_its_worker(pool: ModelPool) -> None:
    jobs = [job(SLOW), job(7)]
    pool.submit(jobs)
    time.sleep(0.3)
    pool._workers[0].process.kill()
    assert all(result(one).content for one in jobs)


def test_an_idle_worker_that_dies_is_noticed(pool: ModelPool, counts: Counts) -> None:
    pool._workers[0].process.kill()
    wait_until(lambda: pool.ready_workers == 0)
    wait_until(lambda: pool.ready_workers == 1)
    assert counts.restarts == 1


def test_a_worker_that_hangs_is_replaced(pool: ModelPool, counts: Counts) -> None:
    pool.submit([job(SLOW, seconds=0.01)])
    time.sleep(0.1)
    pool.submit([late := job(4)])
    assert result(late).content


def test_nothing_is_computed_for_who_has_gone(pool: ModelPool, counts: Counts) -> None:
    busy = [job(SLOW, score_threshold=0.01 * index) for index in range(2)]
    pool.submit(busy)
    wait_until(lambda: pool.waiting == 0)
    gone, expired, stays = job(4), job(4, seconds=0.0), job(5)
    pool.submit([gone, expired, stays])
    gone.future.cancel()
    assert result(stays).content
    assert all(result(one).content for one in busy)
    assert sum(counts.batches) == 3


def test_a_reload_loses_nothing(pool: ModelPool) -> None:
    jobs: list[Job] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            pool.submit([one := job(9)])
            jobs.append(one)
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    former = pool._workers[0]
    pool.reload()
    time.sleep(0.2)
    stop.set()
    asking.join()
    assert all(result(one).content for one in jobs)
    assert pool._workers[0] is not former
    wait_until(lambda: not former.process.is_alive())


def test_a_reload_that_fails_changes_nothing(pool: ModelPool) -> None:
    pool.source = "broken"
    with pytest.raises(ProtomaskError, match="broken: expected weights"):
        pool.reload()
    pool.submit([one := job(3)])
    assert result(one).content


def test_closing_answers_what_waits(counts: Counts) -> None:
    pool = ModelPool("fake", "fake", load, ServeOptions(), counts)
    busy = [job(SLOW, score_threshold=0.01 * index) for index in range(2)]
    pool.submit(busy)
    wait_until(lambda: pool.waiting == 0)
    pool.submit([waits := job()])
    pool.close()
    assert (result(waits).status, result(waits).error) == (503, "the server is shutting down")
    assert all(result(one).content for one in busy)
    pool.submit([late := job()])
    assert result(late).status == 503


def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start() -> None:
    with pytest.raises(ProtomaskError, match="broken: expected weights"):
        ModelPool("fake", "broken", load, ServeOptions())


def test_a_job_is_wanted_until_its_deadline_or_its_end() -> None:
    one = job(seconds=0.0)
    assert not one.is_wanted()
    other = job()
    assert other.is_wanted()
    other.future = Future()
    other.future.cancel()
    assert not other.is_wanted()
