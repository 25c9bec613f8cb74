from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.configs.compose import compose
from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, PolicySpec, SessionInfo
from omniloop.core.errors import PluginError
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.core.scene import Actor, ActorClass, Area, Scene, Track, VectorMap, Vehicle
from omniloop.policies.shield import ShieldPolicy, _braked
from omniloop.runner.run import execute
from tests.plugins import Straight

NOW_US = 1_000_000
CAR_M = np.array([4.0, 2.0, 1.5])
FIELD = Area("field", np.array([[-500, -500, 0], [500, -500, 0], [500, 500, 0], [-500, 500, 0.0]]))


class Curious(Straight):
    """Tells what it was shown."""

    def plan(self, observation):
        seen = [n for n in ("actors", "actor_motion", "map") if getattr(observation, n) is not None]
        return Plan(super().plan(observation).local_to_rig, reasoning=",".join(seen))


class Silent(Straight):
    def plan(self, observation):
        return Plan()


class Knowing(Curious):
    spec = PolicySpec(horizon_s=3.0, route=False, privileged=frozenset({"map"}))


def ask(
    of: str, others: list[tuple[float, float, float]], *, areas=(FIELD,), speed=10.0, **settings
):
    """Ego at the origin drives along x; others are (x, y, speed along x) of boxes of 4 x 2 m."""
    before = np.array([NOW_US - 200_000, NOW_US])
    poses = np.array(
        [[geometry.pose(x - 0.2 * v, y, 0.75), geometry.pose(x, y, 0.75)] for x, y, v in others]
    ).reshape(-1, 2, 7)
    motion = ActorMotion(before, poses, np.ones(poses.shape[:2], dtype=bool))
    actors = tuple(Actor(f"a{k}", ActorClass.CAR, "car", CAR_M) for k in range(len(others)))
    tracks = tuple(
        Track(a, before, p, np.ones(2, dtype=bool)) for a, p in zip(actors, poses, strict=True)
    )
    still = Trajectory(np.array([0, 10_000_000]), np.tile(geometry.pose(), (2, 1)))
    vector_map = VectorMap(drivable_areas=tuple(areas))
    scene = Scene("s", "test", still, tracks=tracks, map=vector_map)
    shield = ShieldPolicy(of, {"speed_mps": speed}, **settings)
    dynamics = np.zeros((1, 12))
    dynamics[0, 0] = speed
    observation = Observation(
        "s/0", "s", 0, NOW_US, NOW_US + 100_000,
        EgoMotion(np.array([NOW_US]), geometry.pose()[None], dynamics), {}, None, Vehicle(),
        actors=actors, actor_motion=motion, map=vector_map,
    )  # fmt: skip

    async def use():
        info = SessionInfo("s/0", scene, 0, Vehicle(), 0, 0, 10_000_000)
        session = await shield.open(info, ())
        plan = await session.plan(observation)
        await session.close()
        return plan, session.facts()["shield"]

    return asyncio.run(use())


def ends_m(plan):
    return plan.local_to_rig.poses[-1, 0]


def test_a_safe_plan_passes_as_it_is():
    plan, facts = ask("tests.plugins:Straight", [(100.0, 0.0, 0.0), (20.0, 6.0, 0.0)])
    assert ends_m(plan) == pytest.approx(30.0)
    assert plan.reasoning == ""
    assert facts["interventions"] == 0


def test_it_stops_before_a_standing_car_with_the_gentlest_braking_that_does():
    # From 10 m/s: 2 m/s2 needs 25 m, 4 m/s2 12.5 m. The box reaches 4.09 m before the origin,
    # the car's rear stands at 24 m.
    plan, facts = ask("tests.plugins:Straight", [(26.0, 0.0, 0.0)])
    assert ends_m(plan) == pytest.approx(12.5)
    assert plan.reasoning == "shield: contact in 2.0 s, brakes with 4 m/s2"
    assert (facts["interventions"], facts["contact"], facts["no_way_out"]) == (1, 1, 0)
    assert plan.samples[0].poses[-1, 0] == pytest.approx(30.0)


def test_braking_ends_where_the_formula_says():
    plan, _ = ask("tests.plugins:Straight", [(26.0, 0.0, 0.0)])
    t = np.minimum(np.arange(31) / 10, 2.5)
    np.testing.assert_allclose(plan.local_to_rig.poses[:, 0], 10 * t - 2 * t * t, atol=1e-9)


def test_who_drives_on_ahead_is_no_threat():
    plan, _ = ask("tests.plugins:Straight", [(15.0, 0.0, 10.0)])
    assert ends_m(plan) == pytest.approx(30.0)


def test_who_runs_into_ego_from_behind_is_not_braked_for():
    plan, _ = ask("tests.plugins:Straight", [(-15.0, 0.0, 20.0)])
    assert ends_m(plan) == pytest.approx(30.0)


def test_where_nothing_helps_the_latest_contact_is_chosen_and_told():
    plan, facts = ask("tests.plugins:Straight", [(9.0, 0.0, 0.0)])
    assert ends_m(plan) == pytest.approx(100 / 16)
    assert facts["no_way_out"] == 1


def test_it_does_not_leave_the_road():
    road = Area("road", np.array([[-50, -5, 0], [20, -5, 0], [20, 5, 0], [-50, 5, 0.0]]))
    plan, facts = ask("tests.plugins:Straight", [], areas=[road])
    assert ends_m(plan) == pytest.approx(12.5)
    assert facts["off_road"] == 1


def test_an_ego_that_is_off_road_already_may_stay_as_deep_as_it_is():
    beside = Area("road", np.array([[-500, 0.5, 0], [500, 0.5, 0], [500, 9, 0], [-500, 9, 0.0]]))
    plan, _ = ask("tests.plugins:Straight", [], areas=[beside])
    assert ends_m(plan) == pytest.approx(30.0)


def test_a_map_without_surface_and_a_world_without_actors_are_no_threat():
    plan, _ = ask("tests.plugins:Straight", [], areas=[])
    assert ends_m(plan) == pytest.approx(30.0)


def test_the_policy_sees_what_it_declares_and_no_more():
    here = __name__
    assert ask(f"{here}:Curious", [(50.0, 9.0, 0.0)])[0].reasoning == ""
    assert ask(f"{here}:Knowing", [(50.0, 9.0, 0.0)])[0].reasoning == "map"
    assert ShieldPolicy(f"{here}:Curious").spec.privileged == {"actors", "map"}


def test_a_plan_not_ready_yet_passes():
    plan, facts = ask(f"{__name__}:Silent", [(9.0, 0.0, 0.0)])
    assert len(plan.local_to_rig) == 0
    assert facts["plans"] == 0


@given(
    st.floats(0.0, 30.0), st.floats(0.5, 10.0),
    st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40),
)  # fmt: skip
def test_braking_never_overtakes_the_plan_nor_goes_back(speed_mps, brake_mps2, steps_m):
    path = geometry.poses_from_xyz_yaw(
        np.stack([np.cumsum([0.0, *steps_m]), *np.zeros((2, len(steps_m) + 1))], axis=1),
        np.zeros(len(steps_m) + 1),
    )
    x = _braked(path, speed_mps, brake_mps2)[:, 0]
    assert (np.diff(x) >= -1e-9).all()
    assert (x <= path[:, 0] + 1e-9).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizon_s": 0.0}, "horizon_s is 0.0"),
        ({"margin_m": float("nan")}, "margin_m is nan"),
        ({"brakes_mps2": (2.0, -1.0)}, "brakes_mps2 is -1.0"),
        ({"brakes_mps2": ()}, "no brakes_mps2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(PluginError, match=words):
        ShieldPolicy("constant_velocity", **settings)


def test_it_keeps_constant_velocity_out_of_every_incident(tmp_path):
    incidents = []
    for name, settings in (
        ("bare", ["policy=constant_velocity"]),
        ("shielded", ["policy=shield", "policy.of=constant_velocity"]),
    ):
        config = compose([
            *settings, "renderer=none", "traffic=idm", f"run.dir={tmp_path}", f"run.name={name}",
            "scenes.ids=[curve,cut_in,stopped_lead]", "sync.duration_s=9",
        ])  # fmt: skip
        results = execute(config).results
        incidents.append([r.metrics["incident"].value for r in results])
    assert incidents == [[1, 1, 1], [0, 0, 0]]
    assert results[0].facts["policy"]["shield"]["interventions"] > 0
    assert results[0].privileged == ["actors", "map"]
