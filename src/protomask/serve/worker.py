"""A worker process: one model, which answers batches of tasks that come through pipes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from io import BytesIO
from multiprocessing.connection import Connection
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from protomask.errors import ConfigError, DataError, ProtomaskError
from protomask.images.decode import Pixels, read_image
from protomask.images.pixels import IMAGE_FORMATS
from protomask.inference.predictor import Predictor
from protomask.serve.answers import render
from protomask.serve.jobs import Answer, Task


class Load(Protocol):
    """`protomask.load`, or what stands for it: a function of some module, since it is called in another process."""

    def __call__(self, source: str | None, *, threads: int | None) -> Predictor:
        """Load a model."""


class Ready(NamedTuple):
    """What a worker says of its model when it can begin."""

    class_names: tuple[str, ...]
    model: str
    runtime: str


class Broken(NamedTuple):
    """Why a worker cannot begin."""

    error: str


def serve_model(load: Load, source: str | None, threads: int, connections: Sequence[Connection]) -> None:
    """Load a model and answer batches until the pipes are closed; each pipe has a thread of its own.

    So one batch is decoded and rendered while the network runs another.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server itself says when to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # PyTorch reads it when it is imported
    first = connections[0]
    try:
        predictor = load(source, threads=threads)
        predictor.predict(np.zeros((64, 64, 3), dtype=np.uint8))  # the first run prepares memory
    except ProtomaskError as error:
        first.send(Broken(str(error)))
        return
    first.send(Ready(predictor.class_names, predictor.model_name, type(predictor).__name__))
    answering = [threading.Thread(target=_answer, args=(predictor, pipe), daemon=True) for pipe in connections]
    for thread in answering:
        thread.start()
    for thread in answering:
        thread.join()


def _answer(predictor: Predictor, pipe: Connection) -> None:
    while True:
        try:
            tasks = pipe.recv()
        except (EOFError, OSError):
            return
        answers = answer_tasks(predictor, tasks)
        try:
            pipe.send(answers)
        except (BrokenPipeError, OSError):
            return


def answer_tasks(predictor: Predictor, tasks: Sequence[Task]) -> list[Answer]:
    """Decode, predict and render; every task gets an answer, whatever happens to the others.

    Args:
        predictor: any `Predictor`.
        tasks: with equal options.

    """
    answers: list[Answer | None] = [None] * len(tasks)
    images: dict[int, Pixels] = {}
    for index, task in enumerate(tasks):
        try:
            images[index] = read_task(task)
        except DataError as error:
            answers[index] = Answer(error=str(error), status=422)
        except MemoryError:
            answers[index] = Answer(error=f"{task.name}: too large for the memory of this server", status=413)
    if images:
        for index, answer in zip(images, _predict(predictor, tasks, images), strict=True):
            answers[index] = answer
    return [answer or Answer(error="no answer", status=500) for answer in answers]


def _predict(predictor: Predictor, tasks: Sequence[Task], images: dict[int, Pixels]) -> list[Answer]:
    try:
        predictor.check_options(tasks[0].options)
        found = predictor.predict_images(list(images.values()), tasks[0].options)
        return [
            Answer(content=render(one.best_first(), image, tasks[index]))
            for one, (index, image) in zip(found, images.items(), strict=True)
        ]
    except ConfigError as error:
        field, _, detail = str(error).partition(": ")
        return [Answer(error=detail, status=422, field=field)] * len(images)
    except Exception as error:  # one request must not end the process
        print(f"worker: {type(error).__name__}: {error}", file=sys.stderr)
        return [Answer(error="the model failed on this image", status=500)] * len(images)


def read_task(task: Task) -> Pixels:
    """Pixels of the image of a task.

    Raises:
        DataError: it cannot be read, or has too many pixels.

    """
    content = task.image
    assert isinstance(content, bytes)  # the server has fetched it
    try:
        with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
            size = image.size
    except Exception:  # the reader below says why
        size = (0, 0)
    if size[0] * size[1] > task.max_pixels:
        raise DataError(
            f"{task.name}: expected at most {task.max_pixels / 1e6:g} megapixels, got {size[0]}x{size[1]} pixels"
        )
    try:
        return read_image(content)
    except DataError as error:
        raise DataError(f"{task.name}: {str(error).removeprefix('image bytes: ')}") from error
