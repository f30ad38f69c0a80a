"""A graph as an OpenVINO file, in float32 or quantised to 8 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from protomask.errors import MissingExtraError
from protomask.exporting.job import WriteJob, without_gradients
from protomask.exporting.onnx import write_onnx
from protomask.exporting.quantize import quantize, require_nncf
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY


def write_openvino(job: WriteJob) -> None:
    """Write an .xml file and the .bin beside it, see `protomask.exporting.job.WriteJob`.

    Raises:
        MissingExtraError: OpenVINO, or for 8 bits NNCF, is not installed.

    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("writing an .xml file needs OpenVINO: pip install 'protomask[openvino]'") from error
    if job.calibration is not None:
        require_nncf()

    info, record = job.info, job.record
    # What is done for each image of a batch does not belong to an operation of a traced module.
    batched = info.takes_batches and info.form == "detections"
    if batched or (record is not None and record.through_onnx):
        between = job.path.with_suffix(".onnx")
        write_onnx(replace(job, path=between, output_names=job.all_names, part_names=(), probe=None, calibration=None))
        model = openvino.convert_model(between)
        between.unlink()
    else:
        with without_gradients():
            batch = -1 if info.takes_batches else 1
            shape = openvino.PartialShape([batch, 3, *(info.input_size or (-1, -1))])
            model = openvino.convert_model(job.graph, example_input=job.example, input=shape)
    model.set_friendly_name(info.model)  # otherwise a number that differs from run to run
    model.inputs[0].tensor.set_names({"image"})
    for output, name in zip(model.outputs, job.all_names, strict=True):
        output.tensor.set_names({name})
    model.set_rt_info(info.to_json(), METADATA_KEY)
    if job.probe is not None:
        openvino.save_model(model, job.probe, compress_to_fp16=False)
    for result in model.get_results()[len(job.output_names) :]:
        model.remove_result(result)
    if job.calibration is not None:
        operations = [operation.get_friendly_name() for operation in model.get_ordered_ops()]
        # Operations are named after their module; what the graph does itself has none.
        kept = ("aten::", *(f"__module.network.{part}" for part in (record.float_parts if record else ())))
        left_out = [name for name in operations if name.startswith(kept)]
        model = quantize(model, job.calibration, left_out)
        model.set_rt_info(info.to_json(), METADATA_KEY)
    openvino.save_model(model, job.path, compress_to_fp16=False)


def annotate_openvino(path: Path, golden: str) -> None:
    """See `protomask.exporting.formats.Annotate`."""
    import openvino

    model = openvino.Core().read_model(path)
    model.set_rt_info(golden, GOLDEN_KEY)
    between = path.with_name(f"golden_{path.name}")  # the weights are read while they are written
    openvino.save_model(model, between, compress_to_fp16=False)
    for suffix in (".bin", ".xml"):
        between.with_suffix(suffix).replace(path.with_suffix(suffix))
