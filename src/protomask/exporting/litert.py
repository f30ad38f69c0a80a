"""A graph as a LiteRT file."""

from __future__ import annotations

from protomask.errors import MissingExtraError
from protomask.exporting.job import WriteJob, converting
from protomask.exporting.program import FirstOutputs
from protomask.runtimes.archive import add_texts
from protomask.runtimes.info import METADATA_KEY


def write_litert(job: WriteJob) -> None:
    """Write a .tflite file, see `protomask.exporting.job.WriteJob`; it has no probe.

    What the file says of itself is in a ZIP archive behind it, as LiteRT has it for associated files.

    Raises:
        MissingExtraError: the converter is not installed.
        ExportError: the converter refuses the graph.

    """
    try:
        import litert_torch
    except ImportError as error:
        raise MissingExtraError(
            "writing a .tflite file needs more packages: pip install 'protomask[litert]' litert-torch"
        ) from error
    with converting(job, "LiteRT cannot hold"):
        graph = FirstOutputs(job.graph, len(job.output_names)).eval()
        litert_torch.convert(graph, (job.example,)).export(str(job.path))
    add_texts(job.path, {METADATA_KEY: job.info.to_json()})
