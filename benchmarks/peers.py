"""Equal minutes, the same images and size, the same kind of start: our models against others, judged by one evaluator.

The others: torchvision's Mask R-CNN with ResNet-50 (torchvision_training.py, in a process of its own), and models of
ultralytics, an external program under the AGPL-3.0 in an environment that you make (--ultralytics-python):

  uv venv ultralytics
  uv pip install --python ultralytics/bin/python ultralytics pycocotools onnx onnxruntime openvino

Every program writes its detections on the validation images as COCO results, which the evaluator of this package
judges: AP, AP at boundaries, and how well scores know the IoU of all detections. Times are medians from the file of a
validation image to the run-length codes of what scores above 0.3, each program alone. Regions to ignore, which the
formats of the others cannot express, only our models know in training. Finished trainings are kept in the output
folder: the same command continues, and with --times-again, on an idle machine, it only measures all times anew.

example:
  python benchmarks/peers.py --data dsb2018-nuclei --minutes 33 --image-size 384 --max-detections 400 \\
    --models yolact_nano protomask_n --torchvision --ultralytics-python ultralytics/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import budget
from ablation_modern import file_name
from budget import Judge, averaged, markdown, prepared_data, read_facts, time_ours, train_ours, write_facts
from measuring import argument_parser, note
from protomask.bench.machine import describe_machine
from protomask.data.formats.convert import convert_dataset


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__, rounds=3)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", required=True, help="data set, as for protomask train")
    parser.add_argument(
        "--models", nargs="*", default=["yolact_nano"], metavar="NAME[=JSON]",
        help="ours: names of the zoo, with further settings of that training",
    )  # fmt: skip
    parser.add_argument("--recipe", default="modern", help="recipe of our trainings")
    parser.add_argument("--torchvision", action="store_true", help="Mask R-CNN too")
    parser.add_argument("--backbone-weights", type=Path, help="ResNet-50 of ImageNet for Mask R-CNN; else random")
    parser.add_argument("--ultralytics-python", type=Path, metavar="PATH", help="Python that can import ultralytics")
    parser.add_argument(
        "--ultralytics-models", nargs="+", default=["yolo11n-seg.yaml", "yolo26n-seg.yaml"], metavar="FILE",
        help="a .yaml begins at random, a .pt with its weights",
    )  # fmt: skip
    parser.add_argument("--times-again", action="store_true", help="measure the times of finished trainings anew")
    parser.add_argument("--output", type=Path, default=Path("runs/peers"), help="folder of everything")
    budget.add_budget_options(parser)
    return parser.parse_args()


class Peers:
    """The programs, each a method that leaves results and facts in a folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = prepared_data(options.data, options.classes, options.output)
        self.judge = Judge(self.data, options.max_detections)
        self.images = self.judge.images(options.timed_images)

    def ours(self, model: str, seed: int, folder: Path) -> Path:
        name, _, more = model.partition("=")
        settings = {"recipe": self.options.recipe, **json.loads(more or "{}"), "model": name}
        results = train_ours(self.data, folder, self.options, seed=seed, **settings)
        if self.images and (self.options.times_again or "ms" not in read_facts(folder)):
            write_facts(folder, ms=time_ours(folder / "last.safetensors", folder, self.images, self.options))
        return results

    def torchvision(self, seed: int, folder: Path) -> Path:
        options, results = self.options, folder / "results.json"
        if not (folder / "results_segm.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            script = Path(__file__).with_name("torchvision_training.py")
            command = [
                sys.executable, script, "--data", self.data, "--minutes", options.minutes, "--threads", options.threads,
                "--image-size", options.image_size, "--batch-size", 2, "--max-detections", options.max_detections,
                "--save-results", results, "--seed", seed, "--json", folder / "report.json",
            ]  # fmt: skip
            if options.backbone_weights is not None:
                command += ["--backbone-weights", options.backbone_weights]
            subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
            told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            write_facts(folder, minutes=told["rows"][0]["minutes"])
        return results

    def ultralytics(self, model: str, seed: int, folder: Path) -> Path:
        options, results = self.options, folder / "results.json"
        if options.times_again or not results.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            dataset = self.judge.dataset
            request = {
                "model": model, "data": str(self._as_yolo()), "minutes": options.minutes, "size": options.image_size,
                "batch": options.batch_size, "seed": seed, "threads": options.threads, "folder": str(folder.resolve()),
                "images": [
                    [image_id, str(dataset.image_path(index).resolve())]
                    for index, image_id in enumerate(dataset.image_ids)
                ],
                "categories": list(dataset.category_ids), "found": options.max_detections,
                "timed": options.timed_images, "rounds": options.rounds, "only_times": results.is_file(),
            }  # fmt: skip
            worker = Path(__file__).with_name("ultralytics_training.py")
            done = subprocess.run(
                [options.ultralytics_python, worker], input=json.dumps(request), stdout=subprocess.PIPE, text=True,
                check=True,
            )  # fmt: skip
            write_facts(folder, **json.loads(done.stdout.splitlines()[-1]))
        return results

    def _as_yolo(self) -> Path:
        """The data set in their format, made once."""
        folder: Path = (self.options.output / "yolo").resolve()
        if not folder.is_dir():
            convert_dataset(str(self.data), str(folder), output_format="yolo", link_images=False)
        return folder / "data.yaml"

    def row(self, name: str, runs: list[tuple[Path, Path]]) -> dict[str, Any]:
        """Means over the seeds of (folder, results)."""
        rows = []
        for folder, results in runs:
            facts = read_facts(folder)
            found = {"found in an image": self.judge.found(results)}
            rows.append({**self.judge.judged(results), "minutes": facts["minutes"], **found, **facts.get("ms", {})})
        return {"model": name, **averaged(rows)}


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    if options.start == "imagenet" and options.torchvision and options.backbone_weights is None:
        raise SystemExit("--backbone-weights: expected ResNet-50 of ImageNet, for the same kind of start")
    peers = Peers(options)
    programs: dict[str, Any] = {model: (lambda s, f, m=model: peers.ours(m, s, f)) for model in options.models}
    if options.torchvision:
        programs["torchvision mask_rcnn_resnet50_fpn"] = peers.torchvision
    if options.ultralytics_python is not None:
        for model in options.ultralytics_models:
            name = f"ultralytics {Path(model).stem}"
            programs[name] = lambda s, f, m=model: peers.ultralytics(m, s, f)
    rows = []
    for name, run in programs.items():
        folders = [options.output / f"{file_name(name)}_{seed}" for seed in options.seeds]
        runs = [(folder, run(seed, folder)) for seed, folder in zip(options.seeds, folders, strict=True)]
        rows.append(peers.row(name.replace("=", " "), runs))
        note(json.dumps(rows[-1]))
        write(options, rows)  # what there is so far
    print((options.output / "peers.md").read_text(encoding="utf-8"))


def write(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    where = describe_machine()
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    content = {"environment": where, "options": asked, "rows": rows}
    (options.output / "peers.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    title = f"{Path(options.data).stem}: {options.minutes:g} minutes at {options.image_size} px, "
    title += f"start {options.start}, seeds {options.seeds}, {options.threads} threads; "
    title += ", ".join(f"{key} {value}" for key, value in where.items())
    (options.output / "peers.md").write_text(f"{title}\n\n{markdown(rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
