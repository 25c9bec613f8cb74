from __future__ import annotations

import numpy as np
import pytest

from omniloop.core.errors import SceneError
from omniloop.training.collect import PERIOD_US, CollectConfig, Work, collect
from omniloop.training.shards import read_shard

SOURCE = ("scenes=embedded",)
QUICK = CollectConfig(duration_s=3.0, traffic="log_replay", processes=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    work = [Work(SOURCE, "curve", seed) for seed in (0, 1)]
    return out, work, collect(work, out, QUICK)


def test_a_rollout_leaves_what_the_model_learns_from(made):
    out, work, found = made
    shard = read_shard(work[0].path(out))
    assert work[0].path(out) == out / "train" / "curve-0.npz"
    assert len(shard["time_us"]) == 15
    np.testing.assert_array_equal(np.diff(shard["time_us"]), PERIOD_US)
    np.testing.assert_array_equal(shard["frame_capture_us"], shard["time_us"])
    assert shard["wide"].shape == shard["tele"].shape == (15, 128, 256, 3)
    assert shard["wide"].max() > 200
    # 1.6 s of history are there from the ninth decision on.
    assert shard["valid"].tolist() == [False] * 8 + [True] * 7
    assert found.frames == 14
    # The lane goes on at about 12 m/s.
    assert shard["target"][-1, 9, 0] == pytest.approx(shard["speed"][-1], rel=0.3)
    assert shard["has_route"].all()


def test_seeds_are_disturbed_differently_and_the_label_leads_back(made):
    out, work, _ = made
    first, second = (read_shard(w.path(out), images=False) for w in work)
    assert np.abs(first["history"][-1] - second["history"][-1]).max() > 1e-3
    for shard in (first, second):
        # The expert keeps to the route, wherever ego has come to.
        end = shard["target"][-1, 20, :2]
        away = np.linalg.norm(shard["route"][-1, :, :2] - end, axis=1).min()
        assert away < 3.0


def test_without_disturbances_ego_stays_where_the_expert_wants_it(tmp_path):
    config = CollectConfig(3.0, "log_replay", {"pause_s": None}, processes=1)
    work = [Work(SOURCE, "straight_road", 0)]
    collect(work, tmp_path, config)
    shard = read_shard(work[0].path(tmp_path), images=False)
    assert np.abs(shard["history"][-1, :, 1]).max() < 0.05
    assert np.abs(shard["target"][-1, :20, 1]).max() < 0.1


def test_what_is_there_is_kept(made):
    out, work, _ = made
    before = work[0].path(out).read_bytes()
    again = collect(work, out, QUICK)
    assert (again.rollouts, again.kept) == (0, 2)
    assert work[0].path(out).read_bytes() == before


def test_the_same_rollout_gives_the_same_bytes(made, tmp_path):
    out, work, _ = made
    collect(work[:1], tmp_path, QUICK)
    assert work[0].path(tmp_path).read_bytes() == work[0].path(out).read_bytes()


def test_a_scene_that_an_edit_does_not_fit_is_told_and_left_out(tmp_path):
    work = [
        Work(SOURCE, "curve", 0), Work(SOURCE, "no_such_scene", 0),
    ]  # fmt: skip
    found = collect(work, tmp_path, QUICK)
    assert found.rollouts == 1
    (reason,) = found.skipped
    assert "no scene 'no_such_scene'" in reason


def test_nothing_at_all_is_an_error(tmp_path):
    with pytest.raises(SceneError, match="no rollout gave any data"):
        collect([Work(SOURCE, "no_such_scene", 0)], tmp_path, QUICK)


def test_no_batch_begins_after_the_time_is_up(tmp_path, made):
    out, work, _ = made
    late = CollectConfig(3.0, "log_replay", processes=1, most_s=0.0)
    found = collect([*work, Work(SOURCE, "junction", 0)], out, late)
    assert (found.rollouts, found.kept) == (0, 2)
