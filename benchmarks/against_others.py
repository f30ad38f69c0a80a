"""From a picture's file to run-length masks: this package against others, all in one run in which they take turns.

The others: YOLACT as the paper and its usual code write it (a dense tensor at every step, here with the same network
and weights), torchvision's Mask R-CNN (with the same weights), and YOLO of ultralytics. That one is under the AGPL-3.0,
so it is neither a dependency nor imported: it runs as an external program in an environment of its own
(--ultralytics-python) and times itself.

The weights of yolact_resnet50 are those of the golden tests, of which Fast NMS has a few hundred candidates in the
golden picture; Mask R-CNN and YOLO have random weights and a threshold that lets a similar number through. Only times
mean something here, no accuracies. Every model returns at most 100 instances.

On a CPU the shipped model runs in ONNX Runtime and OpenVINO, too. On a GPU (--device cuda) the models of this package
run in every precision, eager and compiled, at batch 1 and 8.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as mask_codec
from torch import Tensor
from torch.nn import functional as F

import mask_rcnn
from goldens import golden_image, golden_network
from measuring import argument_parser, positive, report
from postprocess import dense_fast_nms
from protomask.api import Runtime
from protomask.bench.latency import Summary, in_turns
from protomask.bench.models import PRECISIONS, ModelSpec
from protomask.checkpoints.io import save_weights
from protomask.detection.options import PredictOptions
from protomask.images.decode import read_image
from protomask.inference.predictor import Predictor
from protomask.models.layers.module import Module
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.boxes import decode_boxes
from protomask.ops.masks import crop_masks
from protomask.torch_runtime.predictor import TorchPredictor

MAX_DETECTIONS = 100
EVERYTHING = PredictOptions(score_threshold=0.0)
TEXTBOOK, OURS = "textbook YOLACT", "protomask"
EXPORTED: tuple[Runtime, ...] = ("onnx", "openvino") if find_spec("openvino") else ("onnx",)


@dataclass
class Candidate:
    """One row of the table.

    Attributes:
        program: what runs.
        model: which network, with how it runs.
        parameters: of the network; None where unknown.
        predict: files to (seconds, instances found).

    """

    program: str
    model: str
    parameters: int | None
    predict: Callable[[Sequence[Path]], tuple[float, int]]


def timed(work: Callable[[Sequence[Path]], int]) -> Callable[[Sequence[Path]], tuple[float, int]]:
    """Work that ends on the CPU, with the seconds it takes."""

    def run(paths: Sequence[Path]) -> tuple[float, int]:
        started = perf_counter()
        found = work(paths)
        return perf_counter() - started, found

    return run


def count_parameters(network: Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def read_rgb(path: Path) -> Tensor:
    """(3, H, W) uint8."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def encode_dense(masks: Tensor) -> list[dict[str, Any]]:
    """(N, H, W) bool to COCO run-length codes."""
    codes: list[dict[str, Any]] = mask_codec.encode(
        np.asfortranarray(masks.permute(1, 2, 0).cpu().numpy().view(np.uint8))
    )
    return codes


class TextbookYolact:
    """YOLACT without any care for time: float32, batch norm by itself, every tensor dense."""

    def __init__(self, network: Yolact, device: str) -> None:
        self.network = network.to(device).to(memory_format=torch.contiguous_format)
        config = network.config
        self.side = config.image_size
        self.mean = torch.tensor(config.pixel_mean, device=device)[:, None, None]
        self.std = torch.tensor(config.pixel_std, device=device)[:, None, None]

    @torch.no_grad()
    def masks(self, paths: Sequence[Path]) -> list[list[dict[str, Any]]]:
        pictures = [read_rgb(path).to(self.mean.device) for path in paths]
        resized = [F.interpolate(image[None].float(), (self.side, self.side), mode="bilinear") for image in pictures]
        output = self.network((torch.cat(resized) - self.mean) / self.std)
        return [self._read(output, index, (image.shape[1], image.shape[2])) for index, image in enumerate(pictures)]

    def _read(self, output: YolactOutput, index: int, size: tuple[int, int]) -> list[dict[str, Any]]:
        scores = output.class_logits[index].softmax(dim=-1)[:, 1:].T
        boxes = decode_boxes(output.box_deltas[index], output.anchors)
        candidates = scores.amax(dim=0) > 0.05
        boxes, coefficients = boxes[candidates], output.mask_coefficients[index, candidates]
        kept, _, _ = dense_fast_nms(boxes, scores[:, candidates], max_detections=MAX_DETECTIONS)
        grid = (output.prototypes[index] @ coefficients[kept].T).sigmoid().permute(2, 0, 1)
        cropped = crop_masks(grid, boxes[kept])
        return encode_dense(F.interpolate(cropped[None], size, mode="bilinear")[0] > 0.5)

    def predict(self, paths: Sequence[Path]) -> int:
        return sum(map(len, self.masks(paths)))


def torchvision_predict(model: Any, device: str) -> Callable[[Sequence[Path]], int]:
    @torch.inference_mode()
    def predict(paths: Sequence[Path]) -> int:
        found = model([read_rgb(path).to(device).float() / 255 for path in paths])
        return sum(len(encode_dense(result["masks"][:, 0] > 0.5)) for result in found)

    return predict


def own_predict(predictor: Predictor, options: PredictOptions = EVERYTHING) -> Callable[[Sequence[Path]], int]:
    def predict(paths: Sequence[Path]) -> int:
        found = predictor.predict_images([read_image(path) for path in paths], options)
        return sum(len(instances.rle()) for instances in found)

    return predict


class Ultralytics:
    """The external program, see ultralytics_worker.py."""

    def __init__(self, python: Path, threads: int, device: str) -> None:
        worker = Path(__file__).with_name("ultralytics_worker.py")
        self._process = subprocess.Popen(
            [python, worker, str(threads), device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the program of --ultralytics-python ended with code {self._process.wait()}, see above")
        told: dict[str, Any] = json.loads(answer)
        return told

    def __enter__(self) -> Ultralytics:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_golden_picture(folder: Path) -> Path:
    path = folder / "golden.jpg"
    Image.fromarray(golden_image(1)).save(path, quality=95)
    return path


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__, rounds=5)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=Path, nargs="+", metavar="FILE", help="pictures; by default the golden one")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-sizes", type=positive, nargs="+", help="by default 1; on a GPU 1 and 8")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", help="by default float32; on a GPU all")
    parser.add_argument("--compile", action="store_true", help="compiled networks too; always on a GPU")
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="MODEL", help="more of protomask: files, also NAME@bf16"
    )
    parser.add_argument("--ultralytics-python", type=Path, metavar="PATH", help="Python that can import ultralytics")
    parser.add_argument(
        "--ultralytics-models",
        nargs="+",
        default=["yolo11n-seg.yaml:256", "yolo11n-seg.yaml:640", "yolo11l-seg.yaml:640"],
        metavar="FILE:SIZE",
        help="a .yaml has random weights",
    )
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    options.batch_sizes = options.batch_sizes or ([1, 8] if on_gpu else [1])
    options.precisions = options.precisions or (list(PRECISIONS) if on_gpu else ["float32"])
    options.compile |= on_gpu
    return options


def own_candidates(options: argparse.Namespace, sources: dict[str, tuple[str, float | None]]) -> list[Candidate]:
    """Every model of ours in every way to run it; sources are (what to load, candidate threshold) by name."""
    candidates = []
    for name, (source, threshold) in sources.items():
        ways: list[dict[str, Any]] = [
            {"runtime": "torch", "precision": precision, "compile": compiled}
            for compiled in ((False, True) if options.compile else (False,))
            for precision in options.precisions
        ]
        if source == name and options.device == "cpu":  # a shipped model, which runs without PyTorch, too
            ways += [{"runtime": runtime} for runtime in EXPORTED]
        for way in ways:
            predictor = ModelSpec(source=source, **way).load(options.device, threads=options.threads)
            work = timed(own_predict(predictor, EVERYTHING.replace(candidate_threshold=threshold)))
            candidates.append(Candidate(OURS, str(ModelSpec(source=name, **way)), parameters_of(predictor), work))
    for text in options.models:
        predictor = ModelSpec.parse(text).load(options.device, threads=options.threads)
        candidates.append(Candidate(OURS, Path(text).name, parameters_of(predictor), timed(own_predict(predictor))))
    return candidates


def parameters_of(predictor: Predictor) -> int | None:
    return count_parameters(predictor.network) if isinstance(predictor, TorchPredictor) else None


def agreement(textbook: TextbookYolact, ours: Predictor, path: Path) -> str:
    """How many masks of the textbook are found with an IoU of 0.99 or more; empty ones, which have no IoU, left out."""
    [codes] = textbook.masks([path])
    expected = [code for code in codes if mask_codec.area(code)]
    found = [code for code in ours.predict(path, EVERYTHING).rle() if mask_codec.area(code)]
    overlaps = np.asarray(mask_codec.iou(found, expected, [0] * len(expected)))
    alike = int((overlaps.max(axis=0) >= 0.99).sum())
    return f"{path.name}: {alike} of the {len(expected)} masks of the textbook are among the {len(found)} of protomask"


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = options.images or [write_golden_picture(folder)]
        network = golden_network()
        yolact = save_weights(network, folder / "yolact_resnet50.safetensors")
        textbook = TextbookYolact(network, options.device)
        reference, two_stage = mask_rcnn.same_weights()
        threshold = mask_rcnn.threshold_for(two_stage, read_image(images[0]))
        reference.roi_heads.score_thresh = threshold
        reference.to(options.device)
        rcnn = two_stage.save(folder / "mask_rcnn_resnet50_fpn.safetensors")
        sources = {
            "yolact_resnet50": (str(yolact), None),
            "yolact_nano": ("yolact_nano", None),
            "mask_rcnn_resnet50_fpn": (str(rcnn), threshold),
        }
        candidates = [
            Candidate(TEXTBOOK, "yolact_resnet50", count_parameters(textbook.network), timed(textbook.predict)),
            Candidate(
                "torchvision",
                "maskrcnn_resnet50_fpn",
                count_parameters(reference),
                timed(torchvision_predict(reference, options.device)),
            ),
            *own_candidates(options, sources),
        ]
        own = ModelSpec(source=str(yolact)).load(options.device)
        for path in images:
            print(agreement(textbook, own, path))
        if options.ultralytics_python is None:
            print("ultralytics is left out: --ultralytics-python names a Python that has it")
        else:
            program = stack.enter_context(Ultralytics(options.ultralytics_python, options.threads, options.device))
            for index, text in enumerate(options.ultralytics_models):
                name, _, size = text.rpartition(":")
                told = program.ask(build=name, size=int(size), image=str(images[0]), found=MAX_DETECTIONS)

                def ask(paths: Sequence[Path], index: int = index) -> tuple[float, int]:
                    answer = program.ask(predict=index, images=[str(path) for path in paths])
                    return answer["seconds"], answer["found"]

                shown = f"{Path(name).stem} at {size}" + (", random weights" if name.endswith(".yaml") else "")
                candidates.append(Candidate(f"ultralytics {told['version']}", shown, told["parameters"], ask))
        rows = [row for size in options.batch_sizes for row in measure(candidates, images, size, options.rounds)]
    title = f"file to run-length masks, {options.device}, {len(images)} images, median of {options.rounds} rounds"
    report(title, rows, json_file=options.json)


def measure(candidates: Sequence[Candidate], images: Sequence[Path], size: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each candidate at one batch size."""
    batches = [[images[(start + index) % len(images)] for index in range(size)] for start in range(len(images))]
    names = [str(index) for index in range(len(candidates))]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, list[int]] = {name: [] for name in names}
    for name, batch in in_turns(names, batches, rounds=1):
        candidates[int(name)].predict(batch)  # untimed: caches and compilers warm up
    for name, batch in in_turns(names, batches, rounds=rounds):
        spent, count = candidates[int(name)].predict(batch)
        seconds[name].append(spent / size)
        found[name].append(count)
    summaries = {name: Summary.of(values) for name, values in seconds.items()}
    textbook = summaries["0"].median_ms
    return [
        {
            "program": candidate.program,
            "model": candidate.model,
            "M parameters": None if candidate.parameters is None else candidate.parameters / 1e6,
            "batch": size,
            "found per image": sum(found[name]) / len(found[name]) / size,
            "ms per image": summaries[name].median_ms,
            "p95": summaries[name].p95_ms,
            "images/s": 1000 / summaries[name].median_ms,
            "times textbook": textbook / summaries[name].median_ms,
        }
        for name, candidate in zip(names, candidates, strict=True)
    ]


if __name__ == "__main__":
    main()
