"""``sequence_tracks.json`` of a USDZ archive: boxes of other road users over time.

A track without the flag ``CONTROLLABLE`` is static (alpasim.md 6.1): AlpaSim never sends it to a
renderer, since a reconstruction has it. The layout knows no gaps: between two samples a box is
interpolated, however long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.scene import Actor, ActorClass, Scene, Track
from omniloop.scenes.build import damaged, member
from omniloop.scenes.labels import alpasim_label, class_of
from omniloop.scenes.usdz_documents import increasing, items, mapping, numbers, times

_CONTROLLABLE = "CONTROLLABLE"
_FEWEST = 2
"""Samples that AlpaSim needs to interpolate a track."""

# --------------------------------------------------------------------------- reading


def read_tracks(document: Mapping[str, Any], where: str) -> tuple[Track, ...]:
    """Read the document.

    Raises:
        SceneError: there is not exactly one sequence, lists differ in length, two tracks have
            one id, times go back, or a box is none.
    """
    if len(document) != 1:
        raise SceneError(
            f"it has {len(document)} sequences", where=where,
            remedy="give archives of one recorded drive each",
        )  # fmt: skip
    key, sequence = next(iter(document.items()))
    where = f"{where}, {key}"
    data = mapping(sequence, "tracks_data", where)
    ids = items(member(data, "tracks_id", where), None, "'tracks_id'", where)
    labels, flags, stamps, poses = (
        items(member(data, key, where), len(ids), f"'{key}'", where)
        for key in ("tracks_label_class", "tracks_flags", "tracks_timestamps_us", "tracks_poses")
    )
    cuboids = mapping(sequence, "cuboidtracks_data", where)
    sizes = items(member(cuboids, "cuboids_dims", where), len(ids), "'cuboids_dims'", where)
    tracks: dict[str, Track] = {}
    for number, name in enumerate(ids):
        track = _track(
            name, labels[number], flags[number], stamps[number], poses[number], sizes[number], where
        )  # fmt: skip
        if track.actor.id in tracks:
            raise damaged(f"two tracks have the id '{track.actor.id}'", where)
        tracks[track.actor.id] = track
    return tuple(track for track in tracks.values() if len(track.times_us))


def _track(name: Any, label: Any, flags: Any, stamps: Any, poses: Any, size: Any, where: str) -> Track:  # fmt: skip
    where = f"{where}, track {name!s:.100}"
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name):
        raise damaged(f"its id is {name!r:.100}", where)
    when = times(stamps, "tracks_timestamps_us", where)
    boxes = numbers(poses, (None, 7), "tracks_poses", where)
    if when.shape != (len(boxes),):
        raise damaged(f"it has {len(boxes)} poses and times of the shape {when.shape}", where)
    increasing(when, "tracks_timestamps_us", where)
    dims = numbers(size, (3,), "cuboids_dims", where)
    if (dims <= 0).any():
        raise damaged(f"its box has the size {dims.tolist()} m", where)
    kind = class_of(str(label))
    static = not _is_controllable(flags, where)
    try:
        return Track(
            Actor(str(name), kind, str(label), dims, static), when, boxes, np.ones(len(when), bool)
        )
    except SceneError as error:
        raise SceneError(error.what, where=where, remedy=error.remedy) from error


def _is_controllable(flags: Any, where: str) -> bool:
    """Flags are a list of texts, or one text such as ``DYNAMIC|CONTROLLABLE``."""
    given = flags if isinstance(flags, list) else [flags]
    words: list[str] = []
    for flag in given:
        if isinstance(flag, str):
            words += [word.strip().upper() for word in flag.replace(",", "|").split("|")]
        elif flag not in (0, None):
            raise damaged(f"its flag {flag!r:.60} is no word such as '{_CONTROLLABLE}'", where)
    return _CONTROLLABLE in words


# --------------------------------------------------------------------------- writing


def tracks_document(scene: Scene, baked: Collection[str] = ()) -> dict[str, Any]:
    """Write the document: valid samples of tracks that have at least two of them.

    A label of a dataset that AlpaSim does not know is written as one of the same class that
    it does. Parked vehicles are ``CONTROLLABLE`` too, as all road users are with NVIDIA's converter:
    AlpaSim would count collisions with what a video model is not told of.

    Args:
        baked: Ids of static tracks that a reconstruction has.
    """
    seen = [(t, t.valid.astype(bool)) for t in scene.tracks]
    kept = [(track, valid) for track, valid in seen if valid.sum() >= _FEWEST]
    return {
        scene.id: {
            "tracks_data": {
                "tracks_id": [track.actor.id for track, _ in kept],
                "tracks_label_class": [alpasim_label(track.actor) for track, _ in kept],
                "tracks_flags": [_flags(track.actor, track.actor.id in baked) for track, _ in kept],
                "tracks_timestamps_us": [track.times_us[valid].tolist() for track, valid in kept],
                "tracks_poses": [track.local_to_aabb[valid].tolist() for track, valid in kept],
            },
            "cuboidtracks_data": {
                "cuboids_dims": [np.asarray(t.actor.size_m, float).tolist() for t, _ in kept]
            },
        }
    }


def _flags(actor: Actor, is_baked: bool) -> list[str]:
    if not actor.is_static:
        return ["DYNAMIC", _CONTROLLABLE]
    return [] if is_baked or actor.actor_class is ActorClass.OTHER else [_CONTROLLABLE]
