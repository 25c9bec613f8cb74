"""The clock of nuScenes ego poses: lost bus messages and the jump to keyframes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import SceneError
from omniloop.scenes.nuscenes_ego import mend_bus_clock

TIMES_US = np.arange(191) * 100_000
FRAME_S = TIMES_US / 1e6


def drive(time_s: np.ndarray) -> np.ndarray:
    """A drive through a bend, from 9 m/s down to 5 and up again."""
    along = 7 * time_s + 2 / 0.33 * np.sin(0.33 * time_s)
    yaw = 0.5 * np.tanh((along - 60) / 15) + 3.0  # passes pi: headings wrap
    steps = np.linspace(0, 1, 4001)
    path = np.concatenate([[0], np.cumsum(np.diff(steps * 150))])
    bend = 0.5 * np.tanh((path - 60) / 15) + 3.0
    x = np.concatenate([[0], np.cumsum(np.cos(bend[:-1]) * np.diff(path))])
    y = np.concatenate([[0], np.cumsum(np.sin(bend[:-1]) * np.diff(path))])
    wrapped = (yaw + np.pi) % (2 * np.pi) - np.pi
    return np.column_stack([np.interp(along, path, x), np.interp(along, path, y), wrapped])


def on_the_bus(lost_before: list[int], *, rate: float = 1.0, bus_steps: int = 191) -> np.ndarray:
    """What the converter makes of `drive`: every fifth message that arrived, then keyframes."""
    late = sum((np.arange(191) >= step).astype(float) for step in lost_before) * 0.02
    poses = drive((FRAME_S + late) / rate)
    poses[bus_steps:] = drive(FRAME_S[bus_steps:])
    return poses


def speeds(poses: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1) / 0.1


def test_a_clean_recording_comes_back_as_it_is():
    clean = drive(FRAME_S)
    assert mend_bus_clock(TIMES_US, clean, "here") is clean


@pytest.mark.parametrize("steps", [np.arange(5), np.arange(191) * 2])
def test_other_grids_are_left_alone(steps):
    odd = on_the_bus([3])[: len(steps)]
    assert mend_bus_clock(steps * 100_000, odd, "here") is odd


@given(st.lists(st.integers(6, 180), min_size=1, max_size=8, unique=True))
def test_lost_messages_give_their_time_back(lost):
    lost = sorted(
        step for step in lost if all(abs(step - other) > 3 for other in lost if other != step)
    )
    raw = on_the_bus(lost)
    mended = mend_bus_clock(TIMES_US, raw, "here")
    np.testing.assert_allclose(mended[:, :2], drive(FRAME_S)[:, :2], atol=0.02)
    turn = np.angle(np.exp(1j * (mended[:, 2] - drive(FRAME_S)[:, 2])))
    assert np.abs(turn).max() < 0.01
    assert (np.abs(mended[:, 2]) <= np.pi).all()


def test_two_messages_lost_in_one_step_are_both_counted():
    mended = mend_bus_clock(TIMES_US, on_the_bus([50, 50]), "here")
    np.testing.assert_allclose(mended[:, :2], drive(FRAME_S)[:, :2], atol=0.02)


@pytest.mark.parametrize("rate", [0.985, 1.0, 1.015])
@pytest.mark.parametrize("lost", [[], [40, 90, 91, 140]])
def test_a_jump_to_the_keyframes_is_closed(rate, lost):
    raw = on_the_bus(lost, rate=rate, bus_steps=187)
    assert rate == 1.0 or np.ptp(speeds(raw)[-10:]) > 1.5
    mended = mend_bus_clock(TIMES_US, raw, "here")
    np.testing.assert_allclose(mended[:, :2], drive(FRAME_S)[:, :2], atol=0.05)
    assert np.ptp(speeds(mended)[-10:]) < 0.5


def test_the_poses_after_the_jump_stay_as_they_are():
    raw = on_the_bus([], rate=0.985, bus_steps=187)
    mended = mend_bus_clock(TIMES_US, raw, "here")
    np.testing.assert_array_equal(mended[187:], raw[187:])
    np.testing.assert_allclose(mended[0], raw[0])


def test_clocks_that_differ_by_more_than_five_percent_are_refused():
    with pytest.raises(SceneError, match="the ego jumps by") as caught:
        mend_bus_clock(TIMES_US, on_the_bus([], rate=0.9, bus_steps=187), "scene.json, track ego")
    assert caught.value.where == "scene.json, track ego"


def test_a_standing_ego_stays_where_it_is():
    still = np.tile([3.0, 4.0, 1.0], (191, 1))
    assert mend_bus_clock(TIMES_US, still, "here") is still
