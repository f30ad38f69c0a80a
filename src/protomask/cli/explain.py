"""`protomask explain`."""

from __future__ import annotations

from protomask.detection.options import PredictOptions

EXAMPLE = "protomask explain street.jpg --output street"
POSITIONAL = ("image",)
GROUPS = {
    "what matters most": ("model", "weights", "instance", "most_instances", "annotations", "output", "score_threshold"),
    "what is found": ("classes", "iou_threshold", "max_detections", "nms", "candidate_threshold", "image_size"),
}


def run(
    image: str,
    options: PredictOptions,
    *,
    model: str | None = None,
    weights: str | None = None,
    instance: int | None = None,
    most_instances: int = 4,
    annotations: str | None = None,
    output: str = "explanation",
    device: str = "auto",
    json: bool = False,
) -> int:
    """Show why a model found what it found in an image: prototypes, coefficients, competition, leakage.

    Args:
        image: image file or http(s) address.
        options: what is found.
        model: zoo name, weights file, run folder or hf:// address; the shipped default if not given. With --weights,
            the zoo name of the network in that file.
        weights: file from another codebase that does not say which network it holds; --model then names it.
        instance: explain only the instance with this number, counted from 0, best first.
        most_instances: maximum number of instances to explain if none is chosen, the best ones.
        annotations: COCO annotation file with an image of the same file name, to compare the masks with.
        output: folder of the page, index.html, and its images as PNG.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        json: print the numbers as JSON instead of text.
    """
    from protomask.cli.output import dump_json
    from protomask.extras import require_torch
    from protomask.files import check_exists
    from protomask.images.fetch import is_url

    require_torch("protomask explain")
    for file in (None if is_url(image) else image, annotations):
        if file is not None:
            check_exists(file)
    from protomask.api import load
    from protomask.explaining.models import refuse_exported

    refuse_exported(weights or model)
    from protomask.explaining.explain import explain

    predictor = load(weights or model, runtime="torch", model=model if weights else None, device=device)
    explanation = explain(
        image, predictor, instance=instance, most_instances=most_instances, annotations=annotations, output=output,
        options=options,
    )  # fmt: skip
    if json:
        dump_json(explanation.to_dict())
        return 0
    for line in explanation.lines():
        print(line)
    print(f"page: {explanation.page}")
    return 0
