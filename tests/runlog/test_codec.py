"""Messages to bytes and back, bit for bit, as generated protobuf code reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from omniloop.core import geometry
from omniloop.core.contracts import Plan, Route
from omniloop.core.motion import EMPTY_TRAJECTORY, ActorMotion, EgoMotion, Trajectory
from omniloop.core.record import Decision
from omniloop.runlog import codec, motion_codec
from omniloop.runlog import messages as topics
from omniloop.runlog.proto import log_pb2 as pb
from omniloop.runlog.wire import doubles, embedded, sfixed64s, varint
from tests.runlog.samples import START_US, assert_same_bits, make_schedule

any_float = st.floats(width=64)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def times(draw: st.DrawFn, min_size: int = 0) -> np.ndarray:
    values = draw(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=min_size, max_size=5))
    return np.array(sorted(values), dtype=np.int64)


@st.composite
def ego_motions(draw: st.DrawFn) -> EgoMotion:
    t = draw(times())
    return EgoMotion(
        t,
        draw(npst.arrays(np.float64, (len(t), 7), elements=any_float)),
        draw(npst.arrays(np.float64, (len(t), 12), elements=any_float)),
    )


@st.composite
def actor_motions(draw: st.DrawFn) -> ActorMotion:
    t, n = draw(times()), draw(st.integers(0, 4))
    poses = draw(npst.arrays(np.float64, (n, len(t), 7), elements=finite))
    valid = draw(npst.arrays(np.bool_, (n, len(t))))
    if draw(st.booleans()):
        poses[~valid] = geometry.IDENTITY
    return ActorMotion(t, poses, valid)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    t = draw(times())
    xyz = draw(npst.arrays(np.float64, (len(t), 3), elements=finite))
    yaw = draw(npst.arrays(np.float64, len(t), elements=st.floats(-4, 4)))
    return Trajectory(t, geometry.poses_from_xyz_yaw(xyz, yaw))


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_the_one_of_protobuf(value: int) -> None:
    message = pb.NamedSeed(seed=value)
    assert message.SerializeToString() == (b"\x10" + varint(value) if value else b"")


@given(npst.arrays(np.float64, st.integers(0, 40), elements=any_float))
def test_bulk_doubles_are_what_protobuf_itself_writes(values: np.ndarray) -> None:
    assert doubles(2, values) == pb.Trajectory(poses=values.tolist()).SerializeToString()


@given(times())
def test_bulk_times_are_what_protobuf_itself_writes(values: np.ndarray) -> None:
    assert sfixed64s(1, values) == pb.Trajectory(times_us=values.tolist()).SerializeToString()


def test_an_embedded_message_is_what_protobuf_itself_writes() -> None:
    inner = pb.Trajectory(times_us=list(range(100)))
    expected = pb.Plan(local_to_rig=inner).SerializeToString()
    assert embedded(4, inner.SerializeToString()) == expected


@given(ego_motions())
def test_ego_states_come_back_bit_for_bit(ego: EgoMotion) -> None:
    message = pb.EgoStates.FromString(motion_codec.encode_ego(ego))
    assert_same_bits(motion_codec.decode_ego(message), ego)


@given(actor_motions())
def test_actor_states_come_back_bit_for_bit_valid_or_not(actors: ActorMotion) -> None:
    message = pb.ActorStates.FromString(motion_codec.encode_actors(actors))
    assert_same_bits(motion_codec.decode_actors(message), actors)


def test_absent_actors_take_no_room() -> None:
    t = np.arange(4, dtype=np.int64)
    poses = np.broadcast_to(geometry.IDENTITY, (50, 4, 7)).copy()
    valid = np.zeros((50, 4), dtype=bool)
    assert len(motion_codec.encode_actors(ActorMotion(t, poses, valid))) < 80
    poses[3, 1, 0] = -0.0  # not the identity's bits: everything is kept
    assert len(motion_codec.encode_actors(ActorMotion(t, poses, valid))) > poses.nbytes


@given(
    trajectories(), st.lists(trajectories(), max_size=3), st.text(), st.booleans(), st.booleans()
)
def test_a_decision_comes_back_bit_for_bit(
    plan: Trajectory, samples: list[Trajectory], text: str, dropped: bool, terminate: bool
) -> None:
    text = text.encode("utf-8", "ignore").decode()
    route = Route(5, np.array([[0.1, -0.0, 5e-324], [1.0, 2.0, 3.0]]))
    decision = Decision(3, 4, Plan(plan, tuple(samples), text, terminate), dropped, route)
    for observed in (None, route, Route(5, route.waypoints_rig + 1)):
        data = codec.encode_plan(decision, observed)
        assert_same_bits(codec.decode_plan(data, observed), decision)


def test_a_decision_without_route_or_plan_comes_back() -> None:
    decision = Decision(3, 4, Plan(EMPTY_TRAJECTORY), True, None)
    data = codec.encode_plan(decision, None)
    assert_same_bits(codec.decode_plan(data, Route(5, np.zeros((2, 3)))), decision)


def test_text_that_utf8_cannot_hold_is_written_as_escapes() -> None:
    decision = Decision(3, 4, Plan(EMPTY_TRAJECTORY, reasoning="a\ud800b"), True, None)
    assert codec.decode_plan(codec.encode_plan(decision, None), None).plan.reasoning == "a\\ud800b"


def test_an_estimate_that_is_the_truth_is_stored_once() -> None:
    ego = EgoMotion(np.array([1]), np.ones((1, 7)), np.zeros((1, 12)))
    copy = EgoMotion(ego.times_us.copy(), ego.local_to_rig.copy(), ego.dynamics.copy())
    other = EgoMotion(ego.times_us, ego.local_to_rig, -ego.dynamics)  # -0.0: equal, other bits
    actors = ActorMotion(np.array([1]), np.zeros((0, 1, 7)), np.zeros((0, 1), dtype=bool))
    once, twice = (codec.encode_commit(0, ego, estimate, actors) for estimate in (copy, other))
    assert len(twice) - len(once) > 19 * 8
    assert_same_bits(codec.decode(topics.COMMIT, once).ego_estimated, ego)
    assert_same_bits(codec.decode(topics.COMMIT, twice).ego_estimated, other)


def test_a_schedule_comes_back_with_and_without_chunk() -> None:
    from dataclasses import replace

    for schedule in (
        make_schedule(),
        replace(make_schedule(), chunk=None, clocks=(), postfetch=True),
    ):
        header = topics.LogHeader(
            "a/1", "a", 1, schedule, {"b": 2**63, "a": 1}, {"policy": "x"}, (), "00"
        )
        read = codec.decode(topics.HEADER, codec.encode_header(header, "{}"))
        assert read.schedule == schedule
        assert read.seeds == {"a": 1, "b": 2**63}
        assert read.schedule.context_start_us == START_US


def test_a_newer_log_version_is_refused() -> None:
    data = pb.Header(version=topics.LOG_VERSION + 1).SerializeToString()
    with pytest.raises(ValueError, match="log version 2 is newer than 1"):
        codec.decode(topics.HEADER, data)


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    short = pb.EgoStates(times_us=[1, 2], local_to_rig=[0.0] * 7, dynamics=[0.0] * 24)
    with pytest.raises(ValueError, match="reshape"):
        motion_codec.decode_ego(short)
    missing = pb.ActorStates(times_us=[1, 2], actor_count=2, valid=b"\x07", local_to_aabb=[0.0] * 7)
    with pytest.raises(ValueError, match="reshape"):
        motion_codec.decode_actors(missing)
