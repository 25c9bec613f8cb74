"""Contacts and times to collision beside those of CommonRoad's drivability checker and CriMe.

Both pin other versions of libraries that Omniloop needs, so they run in an interpreter of
their own: `python -m venv PEER && PEER/bin/pip install commonroad-crime`, and then
`OMNILOOP_COMMONROAD_PYTHON=PEER/bin/python pytest tests/metrics/test_commonroad.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from omniloop.core import geometry
from omniloop.core.motion import bracket
from omniloop.core.record import RolloutRecord
from omniloop.metrics.boxes import TOUCH_M, Rectangles, penetration_m
from omniloop.metrics.contacts import actor_poses, find_overlaps
from omniloop.metrics.nuplan_ttc import least_times_s
from omniloop.metrics.samples import score_samples
from omniloop.metrics.ttc import considered, nearest_s
from tests.metrics.nuplan_records import TWO_LANES
from tests.metrics.records import EGO, Body, moving, record
from tests.metrics.test_invariance import random_record

pytestmark = pytest.mark.timeout(600)  # the peers are slow

PYTHON = "OMNILOOP_COMMONROAD_PYTHON"
PEER = FilePath(__file__).with_name("commonroad_peer.py")
PAIRS, SCENES, EGOS, LEADS = 2000, 240, 24, 10
FAR = (1e4, 1e4, 0.0, 1.0, 1.0)
"""Where an actor is put that is absent."""


def interpreter() -> str:
    """One that has the packages; skips the test without one."""
    given = os.environ.get(PYTHON)
    if given:
        return given
    if all(importlib.util.find_spec(name) for name in ("commonroad_dc", "commonroad_crime")):
        return sys.executable
    pytest.skip(f"no commonroad-crime here: give an interpreter that has it in {PYTHON}")


@functools.cache
def pairs() -> tuple[Rectangles, Rectangles]:
    """Random boxes near one another, a fifth of them aligned with their partner."""
    rng = np.random.default_rng(7)
    one, other = (
        Rectangles(
            rng.uniform(-6, 6, (PAIRS, 2)), rng.uniform(-4, 4, PAIRS), rng.uniform(0.2, 4, (PAIRS, 2))
        )
        for _ in range(2)
    )  # fmt: skip
    other.yaw_rad[::5] = one.yaw_rad[::5]
    return one, other


@functools.cache
def scenes() -> tuple[RolloutRecord, ...]:
    return tuple(random_record(seed) for seed in range(SCENES))


@functools.cache
def leads() -> tuple[tuple[list[float], list[list[float]]], ...]:
    """Egos with speed and length, and the others ahead of each: centre, speed and length."""
    rng = np.random.default_rng(8)
    out = []
    for _ in range(EGOS):
        speed, length = rng.uniform(3, 30), rng.uniform(2, 12)
        lengths = rng.uniform(2, 12, LEADS)
        ahead = (length + lengths) / 2 + rng.uniform(0.3, 40, LEADS)
        others = np.round(np.column_stack([ahead, rng.uniform(0.1, 20, LEADS), lengths]), 3)
        out.append(([round(speed, 3), round(length, 3)], others.tolist()))
    return tuple(out)


def boxes_of(made: RolloutRecord) -> list[list[list[list[float]]]]:
    """Ego's and each actor's boxes every 20 ms from handover on."""
    samples = score_samples(made)
    assert samples is not None
    vehicle, sizes = made.scene.vehicle, made.scene.actor_sizes_m
    seen = find_overlaps(made.ego, made.actors, vehicle, sizes, samples.times_us)
    lo, hi, _ = bracket(made.actors.times_us, seen.times_us)
    present = made.actors.valid[:, lo] & made.actors.valid[:, hi]

    def listed(poses: np.ndarray, size: np.ndarray) -> list[list[float]]:
        plane = np.column_stack([poses[:, :2], geometry.yaw_rad(poses)])
        return [[*row, float(size[0]), float(size[1])] for row in plane.tolist()]

    ego = listed(seen.ego.local_to_aabb, vehicle.size_m)
    out = []
    for row in range(len(sizes)):
        at = np.flatnonzero(present[row])
        there = listed(
            actor_poses(made.actors, np.full(len(at), row), seen.times_us[at]), sizes[row]
        )
        boxes = [list(FAR)] * len(ego)
        for k, box in zip(at.tolist(), there, strict=True):
            boxes[k] = box
        out.append([ego, boxes])
    return out


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What the peers say of all questions below."""
    one, other = (
        np.column_stack([r.xy, r.yaw_rad, 2 * r.half_m]).tolist() for r in pairs()
    )  # fmt: skip
    asked = {
        "collide": list(zip(one, other, strict=True)),
        "first_contacts": [pair for made in scenes() for pair in boxes_of(made)],
        "ttc": leads(),
    }
    done = subprocess.run(
        [interpreter(), str(PEER)], input=json.dumps(asked), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_boxes_overlap_where_the_drivability_checker_says_so(answers: dict[str, Any]) -> None:
    depth_m = penetration_m(*pairs())
    told = np.array(answers["collide"])
    sure = np.abs(depth_m) > TOUCH_M
    assert sure.sum() > 0.99 * PAIRS
    assert min(told.sum(), (~told).sum()) > PAIRS // 5
    assert ((depth_m > TOUCH_M) == told)[sure].all()


def test_contacts_begin_where_the_collision_checker_finds_them(answers: dict[str, Any]) -> None:
    ours: list[int | None] = []
    for made in scenes():
        samples = score_samples(made)
        assert samples is not None
        found = find_overlaps(
            made.ego, made.actors, made.scene.vehicle, made.scene.actor_sizes_m, samples.times_us
        ).overlapping
        ours += [int(row.argmax()) if row.any() else None for row in found]
    assert len(ours) == 4 * SCENES
    assert min(ours.count(None), len(ours) - ours.count(None)) > SCENES // 2
    assert ours == answers["first_contacts"]


def test_times_to_collision_in_a_lane_are_those_of_crime(answers: dict[str, Any]) -> None:
    """CriMe's are exact to 0.01 s; ours are the first of 0.1, 0.2, ... s after the contact."""
    finite = 0
    asked = [(*ego, *other) for ego, others in leads() for other in others]
    told = [time_s for times in answers["ttc"] for time_s in times]
    for lead, exact in zip(asked, told, strict=True):
        ego_mps, ego_length, ahead, other_mps, other_length = lead
        vehicle = replace(EGO, length_m=ego_length, rear_axle_to_center_m=0.0)
        made = record(
            moving(0, 0, ego_mps), [Body(moving(ahead, 0, other_mps), (other_length, 2.0, 1.5))],
            vehicle=vehicle, vector_map=TWO_LANES, duration_s=0.1,
        )  # fmt: skip
        samples = score_samples(made)
        assert samples is not None
        nowhere = np.zeros(len(samples.times_us), dtype=bool)
        nuplan = least_times_s(made, samples, nowhere)[0]
        own = nearest_s(made, samples, considered(made, samples), 3.0).ttc_s[0]
        for found, horizon_s in ((nuplan, 2.9), (own, 3.0)):
            if np.isfinite(found):
                assert exact is not None, lead
                assert -0.006 <= found - exact <= 0.106, (lead, found, exact)
            else:
                assert exact is None or exact > horizon_s - 0.006, (lead, exact)
        finite += bool(np.isfinite(nuplan))
    assert EGOS * LEADS // 5 < finite < EGOS * LEADS
