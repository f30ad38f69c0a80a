"""Where NMS is best done: inside the exported graph ("detections"), or after it in NumPy ("candidates").

Both forms of a model take turns on the same images, in ONNX Runtime and, where it is installed, in OpenVINO. The time
is that of a prediction from the decoded image to run-length masks, the median of the rounds.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import protomask
from measuring import argument_parser, milliseconds, report
from protomask import PredictOptions
from protomask.api import Runtime
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.inference.sources import open_source
from protomask.runtimes.info import Form
from protomask.runtimes.shipped import SAMPLES

FORMS: tuple[Form, ...] = ("detections", "candidates")


def main() -> None:
    parser = argument_parser(__doc__, rounds=15)
    parser.add_argument("--models", nargs="+", default=["yolact_nano"], help="as for protomask.load")
    parser.add_argument("--images", default=str(SAMPLES), help="image, folder or glob")
    arguments = parser.parse_args()
    images = [frame.image for frame in open_source(arguments.images)]
    runtimes: list[Runtime] = ["onnx", "openvino"] if find_spec("openvino") else ["onnx"]
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for name in arguments.models:
            model = protomask.load(name, runtime="torch", device="cpu")
            predictors: dict[str, Predictor] = {}
            for form in FORMS:
                path = Path(folder) / f"{Path(name).stem}_{form}.onnx"
                protomask.export(model, path, form=form, images=images)
                for runtime in runtimes:
                    predictors[f"{form}, {runtime}"] = protomask.load(path, runtime=runtime, threads=arguments.threads)
            times = milliseconds(
                {key: partial(predict, one, images) for key, one in predictors.items()}, rounds=arguments.rounds
            )
            rows += [
                {"model": name, "form, runtime": key, "ms per image": time / len(images)} for key, time in times.items()
            ]
    report("NMS inside the exported graph, or after it", rows, json_file=arguments.json)


def predict(predictor: Predictor, images: list[Pixels]) -> None:
    for image in images:
        [found] = predictor.predict_images([image], PredictOptions())
        found.rle()


if __name__ == "__main__":
    main()
