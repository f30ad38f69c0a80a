from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import get_model

from protomask.checkpoints.io import load_weights
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import training_batches
from protomask.engine.config import TrainConfig
from protomask.engine.folder import Progress, RunFolder, random_state, without_folders
from protomask.engine.result import TrainResult
from protomask.engine.run import train
from protomask.engine.setup import accelerator_for
from protomask.errors import CheckpointError, ConfigError, ProtomaskError
from protomask.models.build import build_criterion
from protomask.structures.target import Target
from targets import empty_target

TINY = {
    "backbone": "shufflenet_v2_x1_0",
    "fpn_channels": 8,
    "protonet_channels": 8,
    "num_prototypes": 4,
    "anchor_scales": [[8.0], [16.0], [32.0], [48.0], [64.0]],
}


def write_split(folder: Path, split: str, count: int, classes: tuple[str, ...]) -> None:
    generator = np.random.default_rng(len(split))
    (folder / "images" / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        pixels = generator.integers(0, 60, (48, 64, 3), dtype=np.uint8)
        image_id = 100 + index
        for label in range(0 if index == 3 else 2):
            x, y = int(generator.integers(0, 30)), int(generator.integers(0, 20))
            w, h = 24, 20
            pixels[y : y + h, x : x + w, label % 3] = 220
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 10 * (label % len(classes) + 1),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        Image.fromarray(pixels).save(folder / "images" / split / f"{index}.png")
        images.append({"id": image_id, "file_name": f"{index}.png", "width": 64, "height": 48})
    categories = [{"id": 10 * (label + 1), "name": name} for label, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_split(folder, "train", 7, ("box", "slab"))
    write_split(folder, "val", 3, ("box", "slab"))
    return folder


def settings(data: Path, output: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "data": str(data),
        "output": str(output),
        "model": "yolact_nano",
        "image_size": 64,
        "model_options": TINY,
        "pretrained_backbone": False,
        "epochs": 2,
        "batch_size": 2,
        "freeze_bn": False,
        "log_every": 1,
        "num_workers": 0,
        "device": "cpu",
    }
    return TrainConfig(**{**values, **changes})


def press_ctrl_c() -> None:
    """Call what Ctrl-C would call, without a signal: one that nobody handles would end the process of the tests."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    assert handler is not signal.default_int_handler, "the run does not listen"
    handler(signal.SIGINT, None)


class Recorder:
    """Remembers what it is told; asks the run to stop after an iteration as Ctrl-C would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[Mapping[str, Any]] = []
        self.validations: list[Mapping[str, Any]] = []
        self.messages: list[str] = []
        self.stop_after = stop_after

    def on_step(self, metrics: Mapping[str, Any]) -> None:
        self.steps.append(metrics)
        if metrics["iteration"] == self.stop_after:
            press_ctrl_c()

    def on_validation(self, metrics: Mapping[str, Any]) -> None:
        self.validations.append(metrics)

    def message(self, text: str) -> None:
        self.messages.append(text)


def lines(result: TrainResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (result.output / "metrics.jsonl").read_text().splitlines()]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(path)
    return loaded


def assert_same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> None:
    assert list(first) == list(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture(scope="module")
def straight(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Recorder]:
    recorder = Recorder()
    output = tmp_path_factory.mktemp("runs") / "straight"
    return train(settings(shapes, output), reporter=recorder), recorder


def test_run_folder_holds_what_is_promised(straight: tuple[TrainResult, Recorder], shapes: Path) -> None:
    result, recorder = straight
    assert (result.iteration, result.epoch, result.interrupted, result.skipped_steps) == (6, 2, False, 0)
    names = {path.relative_to(result.output).as_posix() for path in result.output.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.jsonl", "last.safetensors", "checkpoints/last/state.pt"} <= names
    assert not [name for name in names if "tmp" in name]
    assert any(name.startswith("tensorboard/") for name in names)
    assert TrainConfig.load(result.output / "config.yaml") == settings(shapes, result.output)
    assert load_weights(result.last_weights).class_names == ("box", "slab")

    written = lines(result)
    assert [line["iteration"] for line in written if line["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in written if line["kind"] == "validation"] == [1, 2]
    for line in written:
        if line["kind"] == "train":
            parts = [line[f"loss_{term}"] for term in ("box", "class", "mask", "semantic")]
            assert line["loss_total"] == pytest.approx(sum(parts), rel=1e-5)
            assert line["images_per_second"] > 0
            assert 0 <= line["data_wait"] <= 1
        else:
            assert {"box_AP", "mask_AP", "mask_AP50", "best_mask_AP"} <= set(line)
    assert len(recorder.steps) == 6
    assert len(recorder.validations) == 2
    assert result.best_weights is not None
    assert result.best_weights.is_file()
    assert result.best == result.best_weights
    assert replace(result, best_weights=None).best == result.last_weights
    assert result.metrics is not None
    assert result.metrics.num_images == 3


@pytest.mark.parametrize("stop_after", [3, 4])
def test_resume_is_bit_equal(
    straight: tuple[TrainResult, Recorder], shapes: Path, tmp_path: Path, stop_after: int
) -> None:
    reference, _ = straight
    config = settings(shapes, tmp_path / "parts")
    first = train(config, reporter=Recorder(stop_after))
    assert first.interrupted
    assert first.iteration == stop_after
    with (first.output / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "iteration": stop_after + 1}) + '\n{"kind": "tr')
    second = train(replace(config, resume=True, num_workers=1))
    assert (second.iteration, second.interrupted) == (6, False)
    assert_same(tensors(reference.last_weights), tensors(second.last_weights))
    assert second.best_mask_ap == reference.best_mask_ap

    measured = {"images_per_second", "data_wait", "seconds", "elapsed_seconds", "remaining_seconds"}
    stripped = [
        [{key: value for key, value in line.items() if key not in measured} for line in lines(result)]
        for result in (reference, second)
    ]
    assert stripped[0] == stripped[1]


def test_training_in_another_thread_says_nothing(
    shapes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(train, settings(shapes, tmp_path / "run", iterations=2)).result()
    assert (result.iteration, result.interrupted) == (2, False)
    assert result.metrics is not None
    assert capfd.readouterr() == ("", "")


def test_resume_without_a_state_starts_from_the_beginning(shapes: Path, tmp_path: Path) -> None:
    result = train(settings(shapes, tmp_path / "new", resume=True, iterations=1))
    assert result.iteration == 1


def test_existing_run_is_not_overwritten(straight: tuple[TrainResult, Recorder], shapes: Path) -> None:
    before = straight[0].last_weights.read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        train(settings(shapes, straight[0].output))
    assert straight[0].last_weights.read_bytes() == before


def test_resume_refuses_other_settings(straight: tuple[TrainResult, Recorder], shapes: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume: .*batch_size was 2, got 4"):
        train(settings(shapes, straight[0].output, resume=True, batch_size=4))


def test_resume_tells_of_a_damaged_state(shapes: Path, tmp_path: Path) -> None:
    config = settings(shapes, tmp_path / "run", iterations=1)
    train(config)
    state = tmp_path / "run" / "checkpoints" / "last" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        train(replace(config, resume=True))


def test_fine_tuning_carries_classes_by_name(straight: tuple[TrainResult, Recorder], tmp_path: Path) -> None:
    data = tmp_path / "three"
    write_split(data, "train", 2, ("slab", "other", "box"))
    write_split(data, "val", 2, ("slab", "other", "box"))
    recorder = Recorder()
    config = settings(
        data,
        tmp_path / "run",
        model=None,
        model_options={},
        image_size=None,
        weights=str(straight[0].last_weights),
        iterations=1,
        learning_rate=1e-12,
        warmup_init=1e-12,
        freeze_bn=True,
    )
    result = train(config, reporter=recorder)
    before, after = tensors(straight[0].last_weights), tensors(result.last_weights)
    differing = {name for name in after if before[name].shape != after[name].shape}
    assert {name.split(".")[0] for name in differing} == {"head", "semantic"}
    for name in after.keys() - differing:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)
    # Of box, slab in the weights to slab, other, box; the head has a background before them.
    torch.testing.assert_close(after["semantic.weight"][[2, 0]], before["semantic.weight"], rtol=0, atol=1e-6)
    old, new = (some["head.classify.bias"].reshape(3, -1) for some in (before, after))
    torch.testing.assert_close(new[:, [0, 3, 1]], old, rtol=0, atol=1e-6)
    assert (
        "classes: carried over by name: slab, box; new: other; in the weights but not in the data: none"
        in recorder.messages
    )


def test_weights_tell_how_they_were_made_but_not_where(straight: tuple[TrainResult, Recorder], shapes: Path) -> None:
    config = settings(shapes, straight[0].output, weights=str(straight[0].last_weights))
    assert str(straight[0].output.parent) in json.dumps(config.to_dict())
    told = without_folders(config)
    assert str(straight[0].output.parent) not in json.dumps(told)
    assert told["weights"] == straight[0].last_weights.name
    assert without_folders(replace(config, weights="hf://owner/model/best.safetensors"))["weights"].startswith("hf")


def test_weights_of_another_model_are_refused(
    straight: tuple[TrainResult, Recorder], shapes: Path, tmp_path: Path
) -> None:
    config = settings(shapes, tmp_path / "run", model="yolact_resnet50", weights=str(straight[0].last_weights))
    with pytest.raises(CheckpointError, match=r"holds yolact_nano, got model yolact_resnet50(.|\n)*missing: back"):
        train(config)


def test_step_with_a_loss_that_is_not_finite_is_left_out(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def broken_once(network: Any, **options: Any) -> Any:
        criterion = build_criterion(network, **options)

        def score(output: Any, targets: Any) -> dict[str, torch.Tensor]:
            calls.append(1)
            losses = criterion(output, targets)
            return {name: loss * float("nan") for name, loss in losses.items()} if len(calls) == 2 else losses

        return score

    monkeypatch.setattr("protomask.engine.run.build_criterion", broken_once)
    recorder = Recorder()
    result = train(settings(shapes, tmp_path / "run", iterations=3, log_every=2), reporter=recorder)
    assert result.skipped_steps == 1
    [message] = [message for message in recorder.messages if "not finite" in message]
    assert "iteration 2" in message
    assert message.count("10") >= 2  # ids of both images
    assert [step["skipped_steps"] for step in recorder.steps] == [1, 0]
    assert all(np.isfinite(step["loss_total"]) for step in recorder.steps)
    assert all(bool(value.isfinite().all()) for value in tensors(result.last_weights).values())
    [kept] = (result.output / "bad_batches").iterdir()
    assert str(kept) in message
    batch = torch.load(kept, weights_only=True)
    [seen] = batch["batches"]
    assert batch["iteration"] == 2
    assert seen["images"].shape == (2, 3, 64, 64)
    assert str(seen["targets"][0]["image_id"]) in message


def test_gradient_that_is_not_finite_is_left_out_and_many_end_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Infinite(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf")

    def broken(network: Any, **options: Any) -> Any:
        criterion = build_criterion(network, **options)

        def score(output: Any, targets: Any) -> dict[str, torch.Tensor]:
            losses = criterion(output, targets)
            return {**losses, "loss_total": Infinite.apply(losses["loss_total"])}

        return score

    monkeypatch.setattr("protomask.engine.run.build_criterion", broken)
    recorder = Recorder()
    config = settings(shapes, tmp_path / "run", iterations=9, max_bad_steps=3)
    with pytest.raises(ProtomaskError, match=r"gradient is not finite.* 3 steps in a row.* Try a lower learning_rate"):
        train(config, reporter=recorder)
    assert sum("gradient is not finite: in" in message for message in recorder.messages) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "schedule": "one_cycle", "label_smoothing": 0.1},
        {"clip_gradient": 0.5, "ema_decay": 0.9},
        {"accumulate": 2, "batch_size": 1, "freeze_bn": True},
        {
            "augmentation": AugmentationConfig(
                scale_jitter=0.5, mosaic=0.7, copy_paste=0.7, multi_scale=0.5, plain_end=0.3
            )
        },
    ],
    ids=["adamw", "average", "accumulate", "mixed"],
)
def test_resume_is_bit_equal_with_every_option(shapes: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = train(settings(shapes, tmp_path / "whole", iterations=4, **changes))
    config = settings(shapes, tmp_path / "parts", iterations=4, **changes)
    assert train(config, reporter=Recorder(stop_after=2)).interrupted
    resumed = train(replace(config, resume=True))
    assert_same(tensors(resumed.last_weights), tensors(whole.last_weights))
    assert [line["loss_total"] for line in lines(resumed) if line["kind"] == "train"] == [
        line["loss_total"] for line in lines(whole) if line["kind"] == "train"
    ]


def test_the_average_is_what_is_validated_and_kept(shapes: Path, tmp_path: Path) -> None:
    plain = train(settings(shapes, tmp_path / "plain", iterations=3))
    averaged = train(settings(shapes, tmp_path / "averaged", iterations=3, ema_decay=0.5))
    assert [line["loss_total"] for line in lines(plain)[:3]] == [line["loss_total"] for line in lines(averaged)[:3]]
    name = "head.box.weight"
    assert not torch.equal(tensors(plain.last_weights)[name], tensors(averaged.last_weights)[name])


def test_run_ends_early_where_nothing_gets_better(shapes: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    config = settings(shapes, tmp_path / "run", epochs=9, learning_rate=1e-9, warmup_init=1e-9, patience=2)
    result = train(config, reporter=recorder)
    assert result.epoch == 3
    assert not result.interrupted
    assert any("no better mask AP in 2 validations" in message for message in recorder.messages)


def test_too_few_images_for_a_step(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least one image for each of 8 batches per step .*, got 7"):
        train(settings(shapes, tmp_path / "run", accumulate=8))


@pytest.mark.parametrize("mixed_precision", ["bf16"])
def test_mixed_precision_trains(shapes: Path, tmp_path: Path, mixed_precision: Any) -> None:
    # Not 64 pixels: oneDNN's bf16 gradient of a 3x3 convolution over a single pixel is not finite.
    changes = {"mixed_precision": mixed_precision, "schedule": "cosine", "image_size": 128}
    config = settings(shapes, tmp_path / "run", iterations=2, **changes)
    recorder = Recorder()
    result = train(config, reporter=recorder)
    assert result.iteration == 2
    assert result.skipped_steps == 0, recorder.messages


@pytest.mark.parametrize("has_amx", [False, True])
def test_precision_by_the_instructions_of_the_cpu(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_amx: bool
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: has_amx, raising=False)
    config = settings(shapes, tmp_path / "run", mixed_precision="auto", device="cpu")
    assert accelerator_for(config).mixed_precision == ("bf16" if has_amx else "no")


def test_half_precision_needs_a_gpu(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mixed_precision: .* got fp16"):
        train(settings(shapes, tmp_path / "run", mixed_precision="fp16"))
    assert not (tmp_path / "run").exists()


def test_failed_write_keeps_the_former_state(
    straight: tuple[TrainResult, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(straight[0].output)
    before = folder.state_file.read_bytes()
    network = load_weights(straight[0].last_weights)
    optimizer = torch.optim.SGD(network.parameters(), lr=1)

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        folder.save_state(
            {"network": network, "optimizer": optimizer}, Progress(), [random_state()], network=network, pending={}
        )
    assert folder.state_file.read_bytes() == before
    assert [path.name for path in folder.state_file.parent.iterdir()] == ["state.pt"]


class Images:
    def __init__(self, count: int) -> None:
        self.count = count
        self.is_remote = False

    def __len__(self) -> int:
        return self.count

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        return random.permutation(self.count)

    def draw(self, index: int, *, scale: float, mixes: bool, recent: Sequence[int]) -> tuple[torch.Tensor, Target]:
        noise = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
        return noise, empty_target((4, 4), image_id=index)


def drawn(count: int, first: int, last: int, workers: int, batch_size: int = 4) -> list[tuple[list[int], bytes]]:
    batches = training_batches(
        Images(count),
        batch_size=batch_size,
        seed=5,
        first_iteration=first,
        last_iteration=last,
        num_workers=workers,
    )
    return [([target.image_id or 0 for target in targets], images.numpy().tobytes()) for images, targets in batches]


def test_batches_depend_on_seed_and_iteration_alone() -> None:
    state = torch.get_rng_state()
    everything = drawn(10, 0, 7, workers=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert drawn(10, 3, 7, workers=2) == everything[3:]
    first_epoch = [index for ids, _ in everything[:2] for index in ids]
    assert len(set(first_epoch)) == 8
    assert everything[0] != everything[2]


def test_data_set_smaller_than_a_batch_gives_it_whole() -> None:
    assert sorted(drawn(3, 0, 1, workers=0)[0][0]) == [0, 1, 2]


def test_rescoring_is_added_and_trained_alone(
    straight: tuple[TrainResult, Recorder], shapes: Path, tmp_path: Path
) -> None:
    before = straight[0].last_weights
    options = {"rescoring_channels": [4, 4], "rescoring_min_area": 4}
    recorder = Recorder()
    changes = {"model": None, "weights": str(before), "model_options": options, "learning_rate": 0.05}
    result = train(
        settings(shapes, tmp_path / "run", add="mask_rescoring", train_only="mask_rescoring", **changes),
        reporter=recorder,
    )
    old, new = tensors(before), tensors(result.last_weights)
    added = {name for name in new if name not in old}
    assert added == {name for name in new if name.startswith("rescoring.")}
    assert [name for name in old if not torch.equal(old[name], new[name])] == []
    assert all(step["loss_rescoring"] is not None for step in recorder.steps)
    assert "only mask_rescoring is trained" in recorder.messages

    further = train(
        settings(
            shapes,
            tmp_path / "more",
            train_only="mask_rescoring",
            **{**changes, "model_options": {}} | {"weights": str(result.last_weights)},
        )
    )
    later = tensors(further.last_weights)
    assert [name for name in old if not torch.equal(old[name], later[name])] == []
    assert any(not torch.equal(new[name], later[name]) for name in added)
    with pytest.raises(ConfigError, match="already has mask_rescoring"):
        train(
            settings(
                shapes, tmp_path / "twice", add="mask_rescoring", **changes | {"weights": str(result.last_weights)}
            )
        )


def test_training_a_part_alone_is_refused_where_it_makes_no_sense(
    straight: tuple[TrainResult, Recorder], shapes: Path, tmp_path: Path
) -> None:
    weights: dict[str, Any] = {"model": None, "model_options": {}, "weights": str(straight[0].last_weights)}
    with pytest.raises(ConfigError, match="train_only: expected weights"):
        settings(shapes, tmp_path / "run", train_only="mask_rescoring")
    with pytest.raises(ConfigError, match="no mask_rescoring yet; the setting add gives it one"):
        train(settings(shapes, tmp_path / "run", train_only="mask_rescoring", **weights))
    write_split(tmp_path / "other", "train", 3, ("box", "slab", "rod"))
    write_split(tmp_path / "other", "val", 3, ("box", "slab", "rod"))
    with pytest.raises(
        ConfigError, match=r"train_only: .*\(new classes: rod\) .*re-initialised: head\.classify\.weight"
    ):
        train(
            settings(
                tmp_path / "other",
                tmp_path / "run",
                add="mask_rescoring",
                train_only="mask_rescoring",
                **weights | {"model_options": {"rescoring_channels": [4]}},
            )
        )


def test_weights_of_the_backbone_alone(shapes: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone = {"backbone": "resnet18", "backbone_levels": ["C2", "C3", "C4"]}
    torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    result = train(
        settings(
            shapes, tmp_path / "run", pretrained_backbone=True, backbone_weights=str(tmp_path / "resnet18.pth"),
            model_options={**TINY, **backbone}, iterations=1, warmup_init=1e-12, learning_rate=1e-12, freeze_bn=True,
        )
    )  # fmt: skip
    taken = torch.load(tmp_path / "resnet18.pth", weights_only=True)["layer2.0.conv1.weight"]
    torch.testing.assert_close(tensors(result.last_weights)["backbone.body.layer2.0.conv1.weight"], taken)


def test_a_run_may_learn_some_of_the_classes(shapes: Path, tmp_path: Path) -> None:
    changes = {"classes": ["slab"], "epochs": 1, "repeat_rare": 1.0}
    result = train(settings(shapes, tmp_path / "run", **changes))
    assert load_weights(tmp_path / "run" / "last.safetensors").class_names == ("slab",)
    assert result.metrics is not None
    assert result.metrics.class_rows()[0][0] == "slab"
    with pytest.raises(ConfigError, match=r"mask_weights: .* has no mask_source pseudo, only none at all"):
        train(settings(shapes, tmp_path / "other", mask_weights={"pseudo": 0.5}))
    with pytest.raises(ProtomaskError, match="expected categories named cow"):
        train(settings(shapes, tmp_path / "other", classes=["cow"]))


def test_a_run_may_learn_from_a_teacher(shapes: Path, tmp_path: Path) -> None:
    small = {"backbone": "shufflenet_v2_x1_0", "neck_channels": 16, "prototype_channels": 8, "branch_depth": 1}
    common: dict[str, Any] = {"model": "protomask_n", "epochs": 1}
    wide = {**small, "neck_channels": 24, "num_prototypes": 8}
    first = train(settings(shapes, tmp_path / "teacher", **common, model_options=wide, image_size=96))
    taught = {**common, "model_options": small, "teacher": str(first.last_weights)}
    result = train(settings(shapes, tmp_path / "student", **taught))
    assert {"loss_teacher_class", "loss_teacher_box", "loss_teacher_mask"} <= set(lines(result)[0])
    assert not any("teacher" in key for key in tensors(result.last_weights))
    with pytest.raises(ConfigError, match=r"teacher: yolact_nano cannot learn from one"):
        train(settings(shapes, tmp_path / "other", teacher=str(first.last_weights)))
    with pytest.raises(ConfigError, match=r"teacher: expected a model of the family proto, got yolact_nano"):
        train(settings(shapes, tmp_path / "other", **{**taught, "teacher": "yolact_nano"}))
