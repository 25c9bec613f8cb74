"""Applying edits: what changes, what stays the same object, and what is refused."""

from __future__ import annotations

import functools
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core import geometry
from omniloop.core.errors import SceneError
from omniloop.core.motion import Trajectory
from omniloop.core.replay import RecordedActors
from omniloop.core.scene import ActorClass, HeightRaster, Scene, VectorMap
from omniloop.scenes.edits.apply import apply_edits
from omniloop.scenes.edits.files import (
    EditList,
    load_edits,
    parse_edit_file,
    read_edit_file,
    recipe_names,
)
from omniloop.scenes.edits.source import EditedScenes, edited
from omniloop.scenes.edits.tracks import MAX_DECEL_MPS2, MAX_LATERAL_MPS2, find_track
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.native import scene_from_bytes, scene_hash, scene_to_bytes
from omniloop.scenes.validate import validate_scene
from omniloop.scenes.validate_motion import overlap_m

SCENES = EmbeddedScenes().ids()
EGO_RECIPES = ("fast_start", "offset_start")


@functools.cache
def scene(name: str = "straight_road") -> Scene:
    return EmbeddedScenes().load(name)


def edit(text: str, base: Scene | None = None) -> Scene:
    file = parse_edit_file("edits:\n" + text, "test", "test.yaml")
    return apply_edits(base or scene(), file.resolve(), where="test.yaml")


def refused(text: str, base: Scene | None = None) -> SceneError:
    with pytest.raises(SceneError) as caught:
        edit(text, base)
    assert caught.value.remedy
    assert caught.value.where.startswith("test.yaml, edit ")
    return caught.value


def tried(base: Scene, edits: EditList) -> tuple[Scene | None, str]:
    """The edited scene, or None and the remedy of the error that says why not."""
    try:
        return edited(base, edits), ""
    except SceneError as error:
        return None, error.remedy


def new_tracks(made: Scene, base: Scene):
    ids = {actor.id for actor in base.actors}
    return [track for track in made.tracks if track.actor.id not in ids]


# ------------------------------------------------------------------------ all recipes


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("name", SCENES)
def test_every_recipe_applies_to_every_embedded_scene(name, recipe):
    made = edited(scene(name), load_edits([f"recipe:{recipe}"]))
    assert made.id == name
    assert len(made.edits) == len(read_edit_file(f"recipe:{recipe}").edits)
    assert not [f for f in validate_scene(made) if f.severity == "error"]


@pytest.mark.parametrize("recipe", recipe_names())
def test_what_a_recipe_does_not_touch_is_the_same_object(recipe):
    base = scene("curve")
    made = edited(base, load_edits([f"recipe:{recipe}"]))
    touched = {"tracks", "edits", "prompt", "tags", "ego"}
    if recipe == "standard_rig":
        touched |= {"cameras", "first_frames"}
    for field in fields(Scene):
        if field.name not in touched:
            assert getattr(made, field.name) is getattr(base, field.name)
    if recipe not in EGO_RECIPES:
        assert made.ego is base.ego
    if recipe != "night_rain":
        assert made.prompt is base.prompt
        assert made.tags is base.tags
    before = {track.actor.id: track for track in base.tracks}
    for track in made.tracks:
        if not track.actor.is_scripted:
            assert track is before[track.actor.id]
    kept = [t.actor.id for t in made.tracks if t.actor.id in before]
    assert kept == [name for name in before if name in kept]  # their order stays


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_gives_the_same_bytes_again_and_another_hash_than_the_scene(recipe):
    base = scene("stopped_lead")
    made = edited(base, load_edits([f"recipe:{recipe}"]))
    again = edited(EmbeddedScenes().load("stopped_lead"), load_edits([f"recipe:{recipe}"]))
    assert scene_to_bytes(made) == scene_to_bytes(again)
    assert scene_hash(made) != scene_hash(base)
    back = scene_from_bytes(scene_to_bytes(made), "bundle")
    assert back.edits == made.edits
    assert [a.is_scripted for a in back.actors] == [a.is_scripted for a in made.actors]


def test_without_edits_a_scene_is_itself():
    assert apply_edits(scene(), ()) is scene()


def test_two_recipes_compose_in_order_like_one_after_the_other():
    both = edited(scene(), load_edits(["recipe:cut_in", "recipe:night_rain"]))
    first = edited(scene(), load_edits(["recipe:cut_in"]))
    assert scene_to_bytes(both) == scene_to_bytes(edited(first, load_edits(["recipe:night_rain"])))
    assert [line.split(":")[0] for line in both.edits] == ["cut_in", "time_of_day", "weather"]


def test_a_source_edits_every_scene_that_it_loads():
    source = EditedScenes(EmbeddedScenes(), load_edits(["recipe:night_rain"]))
    assert source.ids() == SCENES
    assert "time:night" in source.load("curve").tags


# ------------------------------------------------------------------------ kinematics


def states(track, base: Scene):
    t = (track.times_us - base.start_us) / 1e6
    velocity = np.gradient(track.local_to_aabb[:, :2], t, axis=0)
    return t, velocity, np.linalg.norm(velocity, axis=1)


@given(
    st.sampled_from(["straight_road", "curve", "cut_in", "stopped_lead"]),
    st.floats(1.5, 6.0), st.floats(0.3, 3.0), st.floats(1.5, 5.0),
    st.sampled_from([None, 6.0, 12.0, 20.0]),
)  # fmt: skip
def test_a_car_that_cuts_in_drives_as_cars_can_or_is_refused(name, at_s, gap_s, lasts_s, speed):
    base = scene(name)
    values = {"at_s": at_s, "gap_s": gap_s, "duration_s": lasts_s, "speed_mps": speed}
    made, problem = tried(base, load_edits(["recipe:cut_in"], values))
    if made is None:
        assert problem
        return
    (track,) = new_tracks(made, base)
    t, velocity, speeds = states(track, base)
    np.testing.assert_array_equal(np.diff(track.times_us), 100_000)
    moves = speeds > 1.0
    turn = geometry.wrap_rad(
        np.arctan2(velocity[:, 1], velocity[:, 0]) - geometry.yaw_rad(track.local_to_aabb)
    )
    assert np.abs(turn[moves]).max() < 0.03
    accel = np.gradient(speeds, t)[1:-1]
    assert accel.max() < 5.0
    assert accel.min() > -MAX_DECEL_MPS2
    heading = np.unwrap(geometry.yaw_rad(track.local_to_aabb))
    inside = (t > at_s) & (t < at_s + lasts_s)
    assert np.abs(np.gradient(heading, t) * speeds)[inside].max() < MAX_LATERAL_MPS2


def test_the_gap_of_a_cut_in_is_what_was_asked_for_when_it_is_in_the_lane():
    base = scene("straight_road")
    text = "  - {kind: cut_in, at_s: 4, duration_s: 2, gap_s: 1.0, from: left, make_room: true}\n"
    (track,) = new_tracks(edit(text), base)
    now = np.array([6_000_000])
    ego = geometry.compose(base.ego.sample(now), base.vehicle.rig_to_aabb)[0]
    car = track.at(now)[0][0]
    speed = float(np.linalg.norm(np.diff(base.ego.sample([5_950_000, 6_050_000])[:, :2], axis=0)))
    gap_m = car[0] - ego[0] - (base.vehicle.length_m + track.actor.size_m[0]) / 2
    assert gap_m == pytest.approx(speed * 10 * 1.0, abs=0.3)
    assert car[1] == pytest.approx(ego[1], abs=0.02)
    before = track.at(np.array([3_900_000]))[0][0]
    assert before[1] - ego[1] == pytest.approx(3.5, abs=0.02)  # one lane to the left


def test_a_brake_has_its_deceleration_and_leaves_the_past_alone():
    base = scene("straight_road")
    made = edit("  - {kind: hard_brake, actor: lead, at_s: 4, decel_mps2: 5, make_room: true}\n")
    old, track = find_track(base, "lead"), find_track(made, "lead")
    early = old.times_us <= 4_000_000
    np.testing.assert_array_equal(track.local_to_aabb[early], old.local_to_aabb[early])
    t, _, speeds = states(track, base)
    biting = (t > 4.5) & (t < 6.0)
    np.testing.assert_allclose(np.gradient(speeds, t)[biting], -5.0, atol=0.1)
    assert speeds[t > 7.5].max() < 0.01
    assert track.actor.is_scripted
    assert not track.actor.is_static


def test_a_jaywalker_is_on_egos_path_when_it_should_be():
    base = scene("straight_road")
    text = (
        "  - {kind: jaywalk, at_s: 6, gap_s: 1.0, speed_mps: 1.5, from: right, make_room: true}\n"
    )
    (track,) = new_tracks(edit(text), base)
    at_path = track.at(np.array([5_000_000]))[0][0]
    front = base.ego.sample(np.array([6_000_000]))[0]
    reach = base.vehicle.rear_axle_to_center_m + base.vehicle.length_m / 2
    assert at_path[0] == pytest.approx(front[0] + reach, abs=0.1)
    assert at_path[1] == pytest.approx(front[1], abs=0.05)
    _, velocity, speeds = states(track, base)
    assert speeds.max() == pytest.approx(1.5, abs=0.01)
    assert velocity[50, 1] > 0  # from right to left
    assert geometry.yaw_rad(track.local_to_aabb[0]) == pytest.approx(np.pi / 2, abs=0.02)
    assert track.actor.actor_class is ActorClass.PEDESTRIAN
    assert not track.actor.is_static


def test_a_car_on_the_wrong_side_meets_recorded_ego_face_to_face_at_its_time():
    base = scene("straight_road")
    text = "  - {kind: wrong_way, at_s: 7, speed_mps: 9, return_s: null, make_room: true}\n"
    (track,) = new_tracks(edit(text), base)
    now = np.array([7_000_000])
    ego = geometry.compose(base.ego.sample(now), base.vehicle.rig_to_aabb)[0]
    car = track.at(now)[0][0]
    assert car[0] - ego[0] == pytest.approx(
        (base.vehicle.length_m + track.actor.size_m[0]) / 2, abs=0.2
    )
    assert abs(geometry.wrap_rad(geometry.yaw_rad(car) - np.pi)) < 0.03
    assert car[1] == pytest.approx(ego[1], abs=0.05)


def test_a_swerve_goes_aside_by_its_width_and_comes_back():
    base = scene("straight_road")
    text = "  - {kind: swerve, actor: lead, at_s: 4, lateral_m: 2, side: left, hold_s: 1, make_room: true}\n"
    track, old = find_track(edit(text), "lead"), find_track(base, "lead")
    aside = track.local_to_aabb[:, 1] - old.local_to_aabb[:, 1]
    t = track.times_us / 1e6
    np.testing.assert_allclose(aside[(t >= 5.6) & (t <= 6.4)], 2.0, atol=0.02)
    np.testing.assert_allclose(aside[(t < 4.0) | (t > 8.1)], 0.0, atol=0.02)


def test_ego_starts_at_the_speed_and_stays_on_its_path():
    base = scene("curve")
    made = edit("  - {kind: ego_start, speed_mps: 8, over_s: 5}\n", base)
    np.testing.assert_array_equal(made.ego.times_us, base.ego.times_us)
    np.testing.assert_allclose(made.ego.poses[0], base.ego.poses[0], atol=1e-6)
    t = base.ego.times_us / 1e6
    speed = np.linalg.norm(np.gradient(made.ego.poses[:, :2], t, axis=0), axis=1)
    assert speed[5:20].mean() == pytest.approx(8.0, abs=0.1)
    assert np.abs(np.gradient(speed, t)[5:-5]).max() < 4.0
    away = geometry.project_on_polyline(made.ego.poses[:, :2], base.ego.poses[:, :2])[1]
    assert away.max() < 0.02


def test_an_offset_start_is_beside_the_path_and_fades_out_along_it():
    base = scene("straight_road")
    made = edit("  - {kind: ego_start, left_m: 1.5, over_m: 30}\n", base)
    assert made.ego.poses[0, 1] - base.ego.poses[0, 1] == pytest.approx(1.5, abs=1e-6)
    beyond = base.ego.poses[:, 0] > base.ego.poses[0, 0] + 31
    np.testing.assert_allclose(made.ego.poses[beyond], base.ego.poses[beyond], atol=1e-3)
    t = base.ego.times_us / 1e6
    v = np.gradient(made.ego.poses[:, :2], t, axis=0)
    slip = geometry.wrap_rad(np.arctan2(v[:, 1], v[:, 0]) - geometry.yaw_rad(made.ego.poses))
    assert np.abs(slip[3:-3]).max() < 0.02


# ------------------------------------------------------------------- actors as they are


def test_an_inserted_actor_stands_on_the_ground_in_its_lane():
    made = edit("  - {kind: insert, id: box, class: truck, place: {ahead_m: 50, lane: left}, make_room: true}\n")  # fmt: skip
    track = find_track(made, "box")
    assert track.actor.is_static
    assert track.actor.is_scripted
    assert track.valid.all()
    assert (track.times_us[0], track.times_us[-1]) == (scene().start_us, scene().end_us)
    assert track.local_to_aabb[0, 2] == pytest.approx(track.actor.size_m[2] / 2, abs=1e-9)
    ego = scene().ego.poses[0]
    reach = scene().vehicle.rear_axle_to_center_m + scene().vehicle.length_m / 2
    assert track.local_to_aabb[0, 0] - ego[0] == pytest.approx(reach + 50 + 9.5 / 2, abs=0.1)
    assert track.local_to_aabb[0, 1] - ego[1] == pytest.approx(3.5, abs=0.02)


def test_heights_come_from_the_ground_raster_where_it_has_them():
    raised = HeightRaster(np.full((300, 900), 4.0), np.array([[1.0, 0, 200.0], [0, 1.0, 150.0]]))
    base = replace(scene(), ground=raised)
    track = find_track(edit("  - {kind: insert, id: a, place: {x_m: 60, y_m: -1.75, yaw_deg: 0}, make_room: true}\n", base), "a")  # fmt: skip
    assert track.local_to_aabb[0, 2] == pytest.approx(4.0 + 0.75)


def test_one_who_drives_keeps_its_distance_and_slows_for_bends():
    base = scene("curve")
    made = edit("  - {kind: insert, id: a, place: {ahead_m: 8}, motion: drive, speed_mps: 25}\n", base)  # fmt: skip
    track, lead = find_track(made, "a"), find_track(base, "lead")
    depth = overlap_m(
        track.local_to_aabb, track.actor.size_m, lead.local_to_aabb, lead.actor.size_m
    )
    assert depth.max() < 0
    alone = replace(base, tracks=())
    made = edit("  - {kind: insert, id: a, place: {ahead_m: 8}, motion: drive, speed_mps: 25}\n", alone)  # fmt: skip
    t, velocity, speeds = states(find_track(made, "a"), alone)
    turning = np.abs(np.gradient(np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0])), t))
    assert (turning * speeds)[:-1].max() < 2.8
    assert speeds.max() > 13.0


def test_remove_takes_out_who_fits_everything():
    made = edit("  - {kind: remove, class: [car, truck], moving: false}\n")
    assert not [a for a in made.actors if a.is_static]
    assert find_track(made, "walker") is find_track(scene(), "walker")
    made = edit("  - {kind: remove, actors: [lead, walker]}\n")
    assert len(made.actors) == len(scene().actors) - 2
    assert made.edits == ("remove: lead, walker",)
    assert "nobody fits" in edit("  - {kind: remove, class: [bus], within_m: 0.1}\n").edits[0]


def test_a_replaced_actor_keeps_its_path_and_stands_on_the_ground():
    made = edit("  - {kind: replace, actor: lead, class: truck}\n")
    old, new = find_track(scene(), "lead"), find_track(made, "lead")
    np.testing.assert_array_equal(old.local_to_aabb[:, :2], new.local_to_aabb[:, :2])
    bottom = new.local_to_aabb[:, 2] - new.actor.size_m[2] / 2
    np.testing.assert_allclose(bottom, 0.0, atol=1e-9)
    assert new.actor.actor_class is ActorClass.TRUCK
    assert not new.actor.is_scripted  # its motion is the recorded one


def test_a_retimed_actor_is_where_it_was_earlier():
    made = edit("  - {kind: retime, actor: oncoming_1, shift_s: 2}\n")
    old, new = find_track(scene(), "oncoming_1"), find_track(made, "oncoming_1")
    at = np.array([5_000_000])
    np.testing.assert_allclose(new.at(at)[0], old.at(at - 2_000_000)[0], atol=1e-9)
    assert not new.at(np.array([1_000_000]))[1][0]
    slow = find_track(edit("  - {kind: retime, actor: oncoming_1, speed_factor: 0.5}\n"), "oncoming_1")  # fmt: skip
    np.testing.assert_allclose(slow.at(at)[0], old.at(np.array([2_500_000]))[0], atol=1e-9)


def test_an_offset_is_in_the_actors_own_frame():
    made = edit("  - {kind: offset, actor: oncoming_1, ahead_m: 3, left_m: 0.5}\n")
    old, new = find_track(scene(), "oncoming_1"), find_track(made, "oncoming_1")
    moved = new.local_to_aabb - old.local_to_aabb  # it heads towards -x, its left is -y
    np.testing.assert_allclose(moved[:, :2], [[-3.0, -0.5]] * len(moved), atol=1e-9)


def test_prompt_and_tags_change_and_only_one_of_each_tag_stays():
    made = edit("  - {kind: weather, weather: fog}\n  - {kind: weather, weather: rain}\n  - {kind: prompt, add: A dog.}\n")  # fmt: skip
    assert made.tags == (*scene().tags, "weather:rain")
    assert made.prompt.endswith("A dog.")
    assert edit("  - {kind: prompt, text: Snow.}\n").prompt == "Snow."


def test_cones_close_a_lane_from_edge_to_edge():
    base = scene()
    made = edit("  - {kind: close_lane, from_m: 30, to_m: 80, taper_m: 20, spacing_m: 5, truck_m: 60, make_room: true}\n")  # fmt: skip
    cones = [t for t in new_tracks(made, base) if t.actor.label == "traffic_cone"]
    d = np.array([t.local_to_aabb[0, 1] for t in cones]) - base.ego.poses[0, 1]
    assert d[0] == pytest.approx(-1.45, abs=0.02)  # by the right edge of a lane of 3.5 m
    assert d[4:11] == pytest.approx([1.45] * 7, abs=0.02)
    assert (np.diff(d[:5]) > 0).all()
    assert all(t.actor.is_static and t.actor.is_scripted for t in cones)
    assert "pass on the left" in made.edits[0]


def test_room_is_made_by_taking_out_recorded_actors_only_and_said():
    line = edit("  - {kind: insert, id: a, place: {ahead_m: 40, lane: same}, make_room: true}\n").edits[0]  # fmt: skip
    assert "removed in its way: lead, follower" in line
    text = "  - {kind: insert, id: a, place: {ahead_m: 40, lane: same}, make_room: true}\n"
    again = text.replace("id: a", "id: b")
    assert "would appear inside 'a'" in refused(text + again).what


def test_scripted_actors_use_the_recordings_own_times():
    base = scene()
    jittered = tuple(
        replace(t, times_us=t.times_us + np.where(np.arange(len(t.times_us)) % 2 == 1, 3000, 0))
        for t in base.tracks
    )
    shifted = replace(base, tracks=jittered)
    made = edit("  - {kind: insert, place: {ahead_m: 90, lane: left}, make_room: true}\n", shifted)
    before = RecordedActors(shifted)._table.times_us
    np.testing.assert_array_equal(RecordedActors(made)._table.times_us, before)


# ----------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{kind: hard_brake, actor: leed, at_s: 3}", "no actor 'leed'. Did you mean 'lead'?"),
        ("{kind: hard_brake, actor: parked_right_1, at_s: 3}", "drives only 0.0 m/s"),
        ("{kind: hard_brake, at_s: 30}", "30 s is outside the recording of 16.0 s"),
        ("{kind: hard_brake, actor: lead, when_ego_within_m: 2}", "comes no nearer than"),
        ("{kind: insert, place: {ahead_m: 5, at_s: 99}}", "99 s is outside"),
        ("{kind: insert, place: {ahead_m: -8, lateral_m: 1}, motion: pace}", "would appear inside"),
        ("{kind: insert, place: {ahead_m: -6}}", "would appear inside ego at 0.0 s"),
        ("{kind: insert, place: {ahead_m: 40, lateral_m: 30}}", "off the map's drivable areas"),
        ("{kind: insert, place: {ahead_m: 40, lane: right}}", "there is no right lane"),
        ("{kind: insert, place: {x_m: 0, y_m: 900, yaw_deg: 0}}", "off the map's drivable areas"),
        ("{kind: insert, id: lead, place: {ahead_m: 40}}", "there is an actor 'lead' already"),
        ("{kind: cut_in, at_s: 4, gap_s: 1, from: right}", "there is no right lane to cut in from"),
        ("{kind: cut_in, at_s: 15, gap_s: 1, duration_s: 3}", "18 s is outside"),
        ("{kind: swerve, actor: lead, at_s: 4, duration_s: 0.5, lateral_m: 5}", "vehicles can do"),
        ("{kind: swerve, actor: lead, at_s: 4, side: right, duration_s: 3, lateral_m: 6}", "off the map"),
        ("{kind: jaywalk, at_s: 2, gap_s: 1, speed_mps: 0.5}", "before the recording starts"),
        ("{kind: jaywalk, at_s: 20, gap_s: 1}", "outside the recording"),
        ("{kind: close_lane, from_m: -5, to_m: 80}", "begin at ego or behind"),
        ("{kind: close_lane, lane: right, from_m: 20, to_m: 80}", "there is no right lane"),
        ("{kind: ego_start, speed_change_mps: -30}", "would start at -19"),
        ("{kind: ego_start, speed_mps: 40, over_s: 1}", "needs"),
        ("{kind: ego_start, left_m: 3, over_m: 5}", "too steep"),
        ("{kind: ego_start, ahead_m: 28}", "inside 'lead'"),
        ("{kind: retime, actor: lead, shift_s: -100}", "would never be there"),
        ("{kind: offset, actor: lead, left_m: -30}", "off the map's drivable areas"),
        ("{kind: remove, actors: [walkr]}", "Did you mean 'walker'?"),
        ("{kind: replace, actor: walkr, class: car}", "Did you mean 'walker'?"),
    ],
)  # fmt: skip
def test_an_edit_that_does_not_fit_the_scene_says_why(text, what):
    assert what in refused(f"  - {text}\n").what


def test_ego_starts_on_the_map():
    assert (
        "ego would start" in refused("  - {kind: ego_start, ahead_m: -50}\n", scene("curve")).what
    )
    assert edit("  - {kind: ego_start, ahead_m: -50, allow_off_map: true}\n", scene("curve")).edits


def test_off_map_can_be_allowed():
    made = edit("  - {kind: insert, id: a, place: {ahead_m: 40, lateral_m: 30}, allow_off_map: true}\n")  # fmt: skip
    assert find_track(made, "a").valid.all()


def test_a_scene_without_a_map_takes_edits_relative_to_its_path():
    base = replace(scene(), map=VectorMap())
    assert new_tracks(edit("  - {kind: insert, place: {ahead_m: 40, lane: same}, make_room: true}\n", base), base)  # fmt: skip
    assert "no neighbouring lane" in refused("  - {kind: cut_in, at_s: 4, gap_s: 1}\n", base).what


def test_who_stands_all_the_time_gets_no_cut_in_but_objects_ahead():
    times = np.arange(0, 10_000_001, 100_000, dtype=np.int64)
    still = Trajectory(times, np.tile(scene().ego.poses[0], (len(times), 1)))
    base = replace(scene(), ego=still, tracks=())
    assert "moves only 0.0 m/s" in refused("  - {kind: cut_in, at_s: 4, gap_s: 1}\n", base).what
    assert "moves only 0.0 m/s" in refused("  - {kind: jaywalk, at_s: 4, gap_s: 1}\n", base).what
    track = new_tracks(edit("  - {kind: insert, place: {ahead_s: 3, lane: same}}\n", base), base)[0]
    reach = base.vehicle.rear_axle_to_center_m + base.vehicle.length_m / 2
    assert track.local_to_aabb[0, 0] == pytest.approx(still.poses[0, 0] + reach + 2 + 2.3, abs=0.1)


# ------------------------------------------------------------------------- real scenes


@pytest.mark.parametrize(
    ("source", "folder"),
    [("av2:Av2Scenes", "av2"), ("nuscenes:NuScenesScenes", "nuscenes_mini")],
)
def test_recipes_fit_real_scenes_or_say_why_not(shared_data, source, folder):
    import importlib

    module, name = source.split(":")
    made = getattr(importlib.import_module(f"omniloop.scenes.{module}"), name)(
        str(shared_data / folder)
    )
    applied = 0
    for scene_id in made.ids()[1:3]:
        base = made.load(scene_id)
        for recipe in recipe_names():
            out, problem = tried(base, load_edits([f"recipe:{recipe}"]))
            if out is None:
                assert problem
                continue
            applied += 1
            for track in out.tracks:
                assert np.isfinite(track.local_to_aabb).all()
    assert applied >= 12
