from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.contracts import GroundResult
from omniloop.core.errors import ServiceError
from omniloop.core.record import RolloutRecord
from tests.orchestrator.harness import FollowPlan, StampRenderer, drive, make_scene

HILL_M = 0.8


class Hill:
    """A ground that lies everywhere 0.8 m above the recorded poses; it grounds a box once."""

    def open(self, session):
        self.centers_m = {True: session.vehicle.rig_to_aabb[2], False: 0.75}
        self.requests = []
        return self

    def correct(self, request):
        self.requests.append(request)
        poses = request.local_to_aabb.copy()
        poses[:, 2] = self.centers_m[request.is_ego] + HILL_M
        return GroundResult(poses, np.zeros(len(poses), dtype=np.int64))


def heights(record: RolloutRecord):
    return record.ego.times_us, record.ego.local_to_rig[:, 2]


def test_ego_rises_steadily_onto_the_ground_through_warm_up():
    watched = drive(make_scene(5.0), ground=Hill(), warmup_s=2.0)
    times, z = heights(watched.record)
    start, handover = watched.schedule.render_start_us, watched.schedule.handover_us
    share = np.clip((times - start) / (handover - start), 0.0, 1.0)
    assert np.allclose(z, HILL_M * share, atol=1e-9)
    assert np.abs(np.diff(z)).max() < 0.1 * HILL_M


def test_actors_rise_with_ego():
    watched = drive(make_scene(5.0), ground=Hill(), warmup_s=2.0)
    actors = watched.record.actors
    start, handover = watched.schedule.render_start_us, watched.schedule.handover_us
    share = np.clip((actors.times_us - start) / (handover - start), 0.0, 1.0)
    assert np.allclose(actors.local_to_aabb[0, :, 2], 0.75 + HILL_M * share, atol=1e-9)


def test_place_and_heading_in_warm_up_are_the_recordings():
    watched = drive(make_scene(5.0), ground=Hill(), warmup_s=2.0)
    ego, recorded = watched.record.ego, watched.record.scene.ego
    warm = ego.times_us <= watched.schedule.handover_us
    wanted = recorded.sample(ego.times_us[warm])
    assert np.allclose(ego.local_to_rig[warm][:, [0, 1, 3, 4, 5, 6]], wanted[:, [0, 1, 3, 4, 5, 6]])


def test_frames_of_a_video_models_first_chunk_show_the_blended_heights():
    renderer = StampRenderer(8)
    watched = drive(make_scene(5.0), renderer=renderer, ground=Hill(), warmup_s=0.0)
    first = renderer.requests[0]
    start, handover = watched.schedule.render_start_us, watched.schedule.handover_us
    assert start < handover  # the first chunk
    share = np.clip((first.times_us - start) / (handover - start), 0.0, 1.0)
    assert np.allclose(first.local_to_rig[:, 2], HILL_M * share, atol=0.02)


def test_without_a_warm_up_ego_is_grounded_from_the_first_state_on():
    watched = drive(make_scene(3.0), ground=Hill(), warmup_s=0.0)
    times, z = heights(watched.record)
    assert watched.schedule.handover_us == watched.schedule.render_start_us
    assert times[0] == watched.schedule.handover_us
    assert np.allclose(z, HILL_M)


def test_the_controller_starts_each_interval_on_the_grounded_pose():
    controller = FollowPlan()
    drive(make_scene(4.0), ground=Hill(), controller=controller, warmup_s=1.0)
    driven = [r.local_to_rig[2] for r in controller.requests if not r.coerce]
    assert np.allclose(driven, HILL_M)


def test_a_ground_that_changes_nothing_leaves_the_recording_to_the_bit():
    class Copy(Hill):
        def correct(self, request):
            count = len(request.local_to_aabb)
            return GroundResult(request.local_to_aabb.copy(), np.zeros(count, dtype=np.int64))

    watched = drive(make_scene(3.0), ground=Copy(), warmup_s=1.0)
    ego, recorded = watched.record.ego, watched.record.scene.ego
    warm = ego.times_us <= watched.schedule.handover_us
    assert np.array_equal(ego.local_to_rig[warm], recorded.sample(ego.times_us[warm]))


@pytest.mark.parametrize("poses", [slice(1, None), (slice(None), slice(6))])
def test_a_ground_that_answers_for_other_boxes_is_named(poses):
    class Wrong(Hill):
        def correct(self, request):
            count = len(request.local_to_aabb)
            return GroundResult(request.local_to_aabb[poses], np.zeros(count, dtype=np.int64))

    with pytest.raises(ServiceError, match="the ground answered with poses") as caught:
        drive(make_scene(3.0), ground=Wrong())
    assert "line/0" in caught.value.where
