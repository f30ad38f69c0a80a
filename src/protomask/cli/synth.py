"""`protomask data synth`."""

from __future__ import annotations

EXAMPLE = "protomask data synth shapes --images 1000 --seed 0"
POSITIONAL = ("directory",)


def run(
    directory: str,
    *,
    images: int = 1000,
    seed: int = 0,
    val_images: int | None = None,
    height: int = 256,
    width: int = 256,
    workers: int | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Render a synthetic data set of overlapping, textured shapes in COCO format.

    Args:
        directory: folder to write: images/{train,val} and annotations/{train,val}.json.
        images: number of training scenes.
        seed: decides what the scenes show; the same seed gives the same scenes.
        val_images: number of validation scenes, none of them a training scene; a tenth of the training scenes by
            default.
        height: height of every scene in pixels.
        width: width of every scene in pixels.
        workers: processes that render, 0 for none but this one; as many as there are processors by default.
        overwrite: replace another synthetic data set in the folder.
        json: print one JSON summary instead of text.
    """
    import os
    import time
    from dataclasses import asdict

    from protomask.cli.output import dump_json, progress
    from protomask.data.synthetic.write import write_dataset

    started = time.perf_counter()
    held_out = max(1, images // 10) if val_images is None else val_images
    with progress("render", images + held_out, quiet=json, lines=True) as bar:
        summary = write_dataset(
            directory,
            images=images,
            seed=seed,
            image_size=(height, width),
            val_images=held_out,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            overwrite=overwrite,
            progress=bar.update,
        )
    seconds = time.perf_counter() - started
    if json:
        dump_json({**asdict(summary), "directory": str(summary.directory), "seconds": seconds})
    else:
        again = " (already there, same settings)" if summary.reused else f" in {seconds:.0f} s"
        print(
            f"{summary.directory}: {summary.train_images} training images with {summary.train_objects} objects, "
            f"{summary.val_images} validation images with {summary.val_objects} objects{again}"
        )
    return 0
