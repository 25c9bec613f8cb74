from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.cameras import default_camera
from omniloop.core.messages import ChunkRule, RendererSpec, RenderRequest, RenderResult, SessionInfo
from omniloop.core.motion import ActorMotion
from omniloop.core.scene import Vehicle
from omniloop.core.schedule import CameraClock
from omniloop.imperfection.frames import FrameFaults, draw_delays_us, draw_losses
from omniloop.imperfection.settings import FrameSettings
from tests.orchestrator.harness import make_scene

START_US = 1_700_000_000_000_000
CLOCK = CameraClock("front", START_US, 33_333, 0)
MANY = 40_000


def runs_of(lost: np.ndarray) -> np.ndarray:
    """Lengths of runs of lost frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]])))
    return edges[1::2] - edges[::2]


@pytest.mark.parametrize("loss", [0.02, 0.3, 0.9])
def test_independent_losses_are_as_many_as_asked_for(loss):
    lost = draw_losses(FrameSettings(loss=loss), MANY, 5, "front")
    four_sigma = 4 * np.sqrt(loss * (1 - loss) / MANY)
    assert lost.mean() == pytest.approx(loss, abs=four_sigma)
    both = (lost[1:] & lost[:-1]).mean()
    assert both == pytest.approx(loss * loss, abs=2.5 * four_sigma)


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 4.0), (0.2, 10.0), (0.5, 1.0), (0.6, 2.0)])
def test_bursts_have_their_mean_length_and_lose_as_many_as_asked_for(loss, burst):
    lost = draw_losses(FrameSettings(loss=loss, burst_frames=burst), 10 * MANY, 5, "front")
    # A run of b frames counts as one independent loss or so: 5 sigma of that.
    assert lost.mean() == pytest.approx(loss, abs=5 * np.sqrt(2 * burst * loss / (10 * MANY)))
    assert runs_of(lost).mean() == pytest.approx(burst, rel=0.05)


def test_bursts_of_one_frame_are_never_two():
    lost = draw_losses(FrameSettings(loss=0.4, burst_frames=1), MANY, 5, "front")
    assert set(runs_of(lost).tolist()) == {1}


@pytest.mark.parametrize("burst", [None, 1.0, 5.0])
@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_none_and_all_are_exact(loss, burst):
    if loss == 1 and burst is not None:
        with pytest.raises(ValueError, match="cannot lose 1 of all"):
            FrameSettings(loss=loss, burst_frames=burst)
        return
    lost = draw_losses(FrameSettings(loss=loss, burst_frames=burst), 500, 5, "front")
    assert lost.mean() == loss


@given(st.integers(0, 300_000), st.integers(0, 300_000), st.integers(1, 200), st.integers(0, 9))
def test_delays_are_at_least_as_asked_for_and_no_frame_overtakes(delay_us, jitter_us, count, seed):
    settings = FrameSettings(delay_us=delay_us, jitter_us=jitter_us)
    late = draw_delays_us(settings, CLOCK, count, seed)
    assert late.dtype == np.int64
    assert (late >= delay_us).all()
    assert (late <= delay_us + jitter_us).all()
    arrivals = late + CLOCK.interval_us * np.arange(count)
    assert (np.diff(arrivals) >= 0).all()
    more = draw_delays_us(settings, CLOCK, count + 50, seed)
    assert np.array_equal(late, more[:count])


def test_short_jitter_is_uniform_and_every_camera_has_its_own():
    settings = FrameSettings(delay_us=10_000, jitter_us=20_000)
    late = draw_delays_us(settings, CLOCK, MANY, 1)
    assert late.mean() == pytest.approx(20_000, rel=0.01)
    assert late.min() < 10_050
    assert late.max() > 29_950
    other = draw_delays_us(settings, CameraClock("rear", START_US, 33_333, 0), MANY, 1)
    assert abs(np.corrcoef(late, other)[0, 1]) < 0.02


def session_faults(settings: FrameSettings, spec: RendererSpec, seed: int = 3) -> FrameFaults:
    scene = make_scene(cameras=(default_camera(),), start_us=START_US)
    info = SessionInfo(
        scene.id + "/0", scene, 1, Vehicle(), START_US, START_US, START_US + 6_000_000
    )
    return FrameFaults(settings, spec, info, scene.cameras, seed)


def ask(faults: FrameFaults, capture_us: np.ndarray) -> RenderResult:
    times, frames = np.asarray(capture_us, dtype=np.int64), np.arange(len(capture_us))
    motion = ActorMotion(times, np.zeros((0, len(times), 7)), np.zeros((0, len(times)), bool))
    poses = np.zeros((len(times), 7))
    request = RenderRequest(times, poses, (), motion, 0 * frames, frames, frames)
    return faults.apply(request, RenderResult((b"image",) * len(times)))


def all_faults(faults: FrameFaults, captures: np.ndarray, cuts: list[int]) -> tuple:
    told = [ask(faults, part) for part in np.split(captures, cuts) if len(part)]
    return (
        np.concatenate([t.lost for t in told]),
        np.concatenate([t.late_us for t in told]),
    )


FAULTY = FrameSettings(loss=0.3, burst_frames=2, delay_us=5_000, jitter_us=60_000)


@given(st.lists(st.integers(5, 150), max_size=8))
def test_faults_do_not_depend_on_how_frames_are_asked_for(cuts):
    spec = RendererSpec(ChunkRule(8, 30))
    captures = START_US + 33_333 * np.arange(1, 160)
    whole = all_faults(session_faults(FAULTY, spec), captures, [5])
    split = all_faults(session_faults(FAULTY, spec), captures, [5, *sorted(cuts)])
    assert np.array_equal(whole[0], split[0])
    assert np.array_equal(whole[1], split[1])


@pytest.mark.parametrize("first", [5, 9, 13])
def test_the_first_request_is_left_alone_and_the_rest_is_the_same_for_every_chunk(first):
    spec = RendererSpec(ChunkRule(first + 3, 30))
    captures = START_US + 33_333 * np.arange(1, 160)
    lost, late = all_faults(session_faults(FAULTY, spec), captures, [first])
    assert not lost[:first].any()
    assert not late[:first].any()
    reference, reference_late = all_faults(session_faults(FAULTY, spec), captures, [1])
    assert np.array_equal(lost[first:], reference[first:])
    assert np.array_equal(late[first:], reference_late[first:])
    assert lost[first:].any()


def test_a_lost_frame_is_not_late_and_the_facts_count_what_was_done():
    faults = session_faults(FAULTY, RendererSpec(None, fps=30))
    captures = START_US + 33_333 * np.arange(0, 180)
    lost, late = all_faults(faults, captures, [1, 40])
    assert not late[lost].any()
    (facts,) = faults.facts().values()
    assert facts == {
        "frames": 180, "lost": int(lost.sum()), "delayed": int((late > 0).sum()),
        "delay_mean_us": late[late > 0].mean(), "delay_max_us": int(late.max()),
    }  # fmt: skip


def test_losses_and_delays_do_not_disturb_each_other():
    spec = RendererSpec(None, fps=30)
    captures = START_US + 33_333 * np.arange(0, 180)
    only_lost = FAULTY.model_copy(update={"delay_us": 0, "jitter_us": 0})
    only_late = FAULTY.model_copy(update={"loss": 0.0})
    lost, late = all_faults(session_faults(FAULTY, spec), captures, [1])
    assert np.array_equal(lost, all_faults(session_faults(only_lost, spec), captures, [1])[0])
    alone = all_faults(session_faults(only_late, spec), captures, [1])[1]
    assert np.array_equal(late[~lost], alone[~lost])


def test_faults_of_the_renderer_inside_are_kept():
    faults = session_faults(FrameSettings(delay_us=1_000), RendererSpec(None, fps=30))
    ask(faults, START_US + np.array([0]))
    times = START_US + 33_333 * np.arange(1, 3)
    motion = ActorMotion(times, np.zeros((0, 2, 7)), np.zeros((0, 2), bool))
    request = RenderRequest(
        times, np.zeros((2, 7)), (), motion, np.zeros(2, int), np.arange(2), np.arange(2)
    )
    inner = RenderResult((b"a", b"b"), lost=np.array([True, False]), late_us=np.array([0, 500]))
    out = faults.apply(request, inner)
    assert out.lost.tolist() == [True, False]
    assert out.late_us.tolist() == [1_000, 1_500]
