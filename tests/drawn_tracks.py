"""Small videos for tests, made up by Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from protomask.masks.rle import encode_rle
from protomask.structures.tracks import Tracklet, VideoTracks

NAMES = ("cat", "dog", "owl")


@st.composite
def videos(draw: st.DrawFn) -> VideoTracks:
    """Up to 4 tracks of up to 5 frames; masks of a frame do not overlap, as MOTS wants it."""
    height, width, frames = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    count = draw(st.integers(0, 4))
    owners = rng.integers(-1, max(count, 1), (frames, height, width))
    tracks = []
    for number in range(count):
        masks = {
            index: encode_rle((owner == number)[None])[0]
            for index, owner in enumerate(owners)
            if (owner == number).any()
        }
        if masks:
            label = int(rng.integers(len(NAMES)))
            tracks.append(Tracklet(track_id=1000 * (label + 1) + number, label=label, masks=masks))
    return VideoTracks(name="clip", image_size=(height, width), num_frames=frames, tracks=tuple(tracks))
