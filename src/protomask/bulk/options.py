"""What a caller can choose about bulk prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from protomask.settings import Count, NonNegative, Settings, Text

if TYPE_CHECKING:
    from protomask.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class BulkModel(Settings):
    """What finds the instances, loaded by each worker for itself.

    Attributes:
        model: zoo name, weights file, run folder, exported file or hf:// address; the shipped default if not given. On
            a cluster all machines need the same file.
        weights: file from another codebase that does not say which network it holds; --model then names it.
        runtime: what runs the network; auto takes ONNX Runtime for shipped models and .onnx files, OpenVINO for .xml
            files, PyTorch for everything else.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        precision: number type of the network's arithmetic.

    """

    model: Text | None = None
    weights: Text | None = None
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto"
    device: Text = "auto"
    precision: Literal["float32", "bf16", "fp16"] = "float32"

    def load(self, *, threads: int | None = None) -> Predictor:
        """The model, ready to predict.

        Args:
            threads: maximum number of threads that compute; the runtime's own choice by default.

        Raises:
            CheckpointError: weights cannot be found, read, or do not fit.
            ConfigError: unknown name, runtime or device, or settings that do not go together.
            MissingExtraError: the runtime is not installed.

        """
        import sys

        from protomask.api import load

        predictor = load(
            self.weights or self.model, model=self.model if self.weights else None, runtime=self.runtime,
            device=self.device, precision=self.precision, threads=threads,
        )  # fmt: skip
        if threads is not None and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        return predictor

    def located(self) -> BulkModel:
        """The same model with absolute paths, for workers that may run elsewhere."""
        return self.replace(model=_absolute(self.model), weights=_absolute(self.weights))

    def fingerprint(self) -> dict[str, Any]:
        """What says whether two runs use the same model: its settings, and the content of its file."""
        path = Path(self.weights or self.model or "")
        known: dict[str, Any] = self.to_dict()
        if path.is_file():
            from hashlib import file_digest

            with path.open("rb") as file:
                known["sha256"] = file_digest(file, "sha256").hexdigest()
        return known


@dataclass(frozen=True, kw_only=True)
class BulkOptions(Settings):
    """Where images come from in bulk prediction, where rows go, and what works on it.

    Attributes:
        output: folder, or address of a folder such as s3://bucket/found, that gets the Parquet files.
        resume: continue an interrupted run, keeping finished files; if there is none, start one.
        retry_errors: with resume, also remake the files that have rows with errors.
        recursive: also take what is in subfolders.
        image_column: column of Parquet files that holds the images: paths, addresses, bytes, or structs with a field
            bytes as in Hugging Face data sets.
        id_column: column of Parquet files that holds the ids of the images; by default the path, or file and row, is
            the id.
        image_root: folder or address that relative paths in listings and Parquet files start from; the current folder
            by default.
        shard_size: number of images per file; at most this many have to be predicted again for each worker after an
            interruption.
        engine: what spreads the work: local is processes on this machine, ray is a Ray cluster.
        workers: number of processes, or Ray actors, each with its own model; by default as many as the processors
            allow.
        threads: threads of each worker for the network.
        gpus: GPUs that Ray reserves for each worker; may be a fraction.
        ray_address: address of a Ray cluster; by default that of RAY_ADDRESS or of this machine, else a new one is
            started.

    """

    output: Text
    resume: bool = False
    retry_errors: bool = False
    recursive: bool = False
    image_column: Text = "image"
    id_column: Text | None = None
    image_root: Text | None = None
    shard_size: Count = 500
    engine: Literal["local", "ray"] = "local"
    workers: Count | None = None
    threads: Count = 1
    gpus: NonNegative = 0.0
    ray_address: Text | None = None

    def _check(self) -> None:
        self._expect("retry_errors", self.resume or not self.retry_errors, "False without resume")
        local = self.engine == "local"
        self._expect("gpus", not (local and self.gpus), "0 with the local engine, where device says what runs")
        self._expect("ray_address", not local or self.ray_address is None, "none with the local engine")


def _absolute(source: str | None) -> str | None:
    return str(Path(source).absolute()) if source is not None and Path(source).exists() else source
