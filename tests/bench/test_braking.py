from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omniloop.bench.braking import HEAD, is_followed, run, struck
from omniloop.core import geometry
from omniloop.core.contracts import MetricValue
from tests.report.builders import make_record, make_result, make_scene

DENSE = tuple(f"USA_US101-{k}_1_T-1" for k in (1, 3, 5, 8, 10))


def test_replayed_followers_hit_an_ego_that_brakes_and_reactive_ones_do_not(
    shared_data: Path,
) -> None:
    where = [
        "scenes=commonroad", f"scenes.path={shared_data / 'commonroad_ngsim'}",
        f"scenes.ids={','.join(DENSE)}", "sync.duration_s=6",
    ]  # fmt: skip
    found = run(where, ["log_replay", "idm"], decel_mps2=6.0, after_s=0.0)
    assert found["table"][0] == HEAD
    rows = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in found["table"][2:]}
    replayed, reactive = ([int(cell) for cell in rows[name]] for name in ("log_replay", "idm"))
    assert replayed[0] == reactive[0] == len(DENSE)
    assert replayed[2] == len(found["hit"]["log_replay"]) >= 4
    assert reactive[2:] == [0, 0, 0]


def moved(record, ahead_m: float, aside_m: float = 0.0, turned_rad: float = 0.0):
    """The record with its first actor put at a place of ego's rig, at all times."""
    ego = record.ego.trajectory.sample(record.actors.times_us)
    poses = record.actors.local_to_aabb.copy()
    poses[0] = geometry.compose(ego, geometry.pose(ahead_m, aside_m, 0.75, turned_rad))
    valid = record.actors.valid.copy()
    valid[0], valid[1:] = True, False
    return replace(record, actors=replace(record.actors, local_to_aabb=poses, valid=valid))


@pytest.mark.parametrize(
    ("ahead_m", "aside_m", "turned_rad", "follows"),
    [
        (-15.0, 0.0, 0.0, True),
        (-15.0, 1.1, 0.1, True),
        (-15.0, 3.5, 0.0, False),
        (-15.0, 0.0, np.pi, False),
        (15.0, 0.0, 0.0, False),
        (-200.0, 0.0, 0.0, False),
    ],
)
def test_who_follows_is_behind_in_line_and_near(ahead_m, aside_m, turned_rad, follows) -> None:
    assert is_followed(moved(make_record(), ahead_m, aside_m, turned_rad)) is follows


@pytest.mark.parametrize(("ahead_m", "counts"), [(-4.0, (1, 0)), (5.0, (0, 1))])
def test_contacts_are_told_apart_by_where_the_actor_is(ahead_m, counts) -> None:
    record = moved(make_record(make_scene()), ahead_m)
    contact = {
        "actor_id": record.scene.actors[0].id,
        "start_us": record.schedule.handover_us + 500_000,
    }
    collision = MetricValue("collision", 1.0, details={"contacts": [contact]})
    result = replace(make_result(record), metrics={"collision": collision})
    assert struck(record, result) == counts
