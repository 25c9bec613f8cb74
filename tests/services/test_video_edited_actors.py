"""Actors that were edited into a scene reach a video model also where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.messages import RenderRequest
from omniloop.scenes.edits.files import load_edits
from omniloop.scenes.edits.source import edited
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.video_requests import ChunkWriter


@pytest.mark.parametrize(("static_actors", "parked"), [(True, 14), (False, 0)])
def test_cones_are_sent_whether_parked_cars_are_or_not(static_actors, parked):
    scene = edited(EmbeddedScenes().load("straight_road"), load_edits(["recipe:lane_closure"]))
    times = np.array([3_000_000, 3_033_333], dtype=np.int64)
    request = RenderRequest(
        times, scene.ego.sample(times), scene.actors, scene.recorded_actors(times),
        np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64),
    )  # fmt: skip
    sent = ChunkWriter("x", static_actors=static_actors).write(request).dynamic_state.actors
    moving = sum(not actor.is_static for actor in scene.actors)
    assert len(sent) == moving + 15 + 1 + parked
    assert sum(actor.bbox_dims.size_z == pytest.approx(0.75) for actor in sent) == 15
