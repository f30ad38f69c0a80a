"""`protomask data synth`."""

from __future__ import annotations

from protomask.data.synthetic.options import SyntheticVideoOptions

EXAMPLE = "protomask data synth shapes --images 1000 --seed 0"
POSITIONAL = ("directory",)


def run(
    directory: str,
    motion: SyntheticVideoOptions,
    *,
    images: int = 1000,
    seed: int = 0,
    val_images: int | None = None,
    height: int | None = None,
    width: int | None = None,
    video: bool = False,
    videos: int = 1,
    workers: int | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Render a synthetic data set of overlapping, textured shapes in COCO format.

    Args:
        directory: folder to write: images/{train,val} and annotations/{train,val}.json.
        motion: what happens in videos.
        images: number of training scenes.
        seed: decides what the scenes show; the same seed gives the same scenes.
        val_images: number of validation scenes, which never repeat a training scene; by default a tenth of the number
            of training scenes.
        height: height of every image in pixels; 256 by default, 720 for videos.
        width: width of every image in pixels; 256 by default, 1280 for videos.
        video: render videos of moving shapes instead, with their masks and identities as YouTube-VIS JSON
            (annotations/val.json), and as H.264 files where PyAV is installed.
        videos: number of videos.
        workers: number of processes that render scenes, 0 to render in this one; by default one per processor.
        overwrite: replace another synthetic data set in the folder.
        json: print one JSON summary instead of text.
    """
    if video:
        size = (720 if height is None else height, 1280 if width is None else width)
        return _render_videos(directory, motion, videos=videos, seed=seed, size=size, overwrite=overwrite, json=json)
    size = (256 if height is None else height, 256 if width is None else width)
    held_out = max(1, images // 10) if val_images is None else val_images
    return _render_scenes(
        directory, images, held_out, seed=seed, size=size, workers=workers, overwrite=overwrite, json=json
    )


def _render_scenes(
    directory: str,
    images: int,
    held_out: int,
    *,
    seed: int,
    size: tuple[int, int],
    workers: int | None,
    overwrite: bool,
    json: bool,
) -> int:
    import os
    import time
    from dataclasses import asdict

    from protomask.cli.output import dump_json, progress
    from protomask.data.synthetic.write import write_dataset

    started = time.perf_counter()
    with progress("render", images + held_out, quiet=json, lines=True) as bar:
        summary = write_dataset(
            directory,
            images=images,
            seed=seed,
            image_size=size,
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


def _render_videos(
    directory: str,
    motion: SyntheticVideoOptions,
    *,
    videos: int,
    seed: int,
    size: tuple[int, int],
    overwrite: bool,
    json: bool,
) -> int:
    import time
    from dataclasses import asdict

    from protomask.cli.output import dump_json, progress
    from protomask.data.synthetic.write_video import write_videos

    started = time.perf_counter()
    with progress("render", videos * motion.frames, quiet=json, lines=True) as bar:
        summary = write_videos(
            directory, videos=videos, seed=seed, image_size=size, options=motion, overwrite=overwrite,
            progress=bar.update,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    if json:
        files = [str(file) for file in summary.files]
        dump_json({**asdict(summary), "directory": str(summary.directory), "files": files, "seconds": seconds})
    else:
        print(
            f"{summary.directory}: {summary.videos} videos, {summary.frames} frames, {summary.objects} objects in "
            f"{seconds:.0f} s"
        )
        for file in summary.files:
            print(file)
        if not summary.files:
            print("no H.264 files: they need the extra video, and even sides")
    return 0
