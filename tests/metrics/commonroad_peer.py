"""Answers of CommonRoad's drivability checker and CriMe, for `test_commonroad`.

A program of its own: it runs in an interpreter that has these packages, which pin other
versions of libraries that Omniloop needs. Reads one JSON document from standard input, writes
one to standard output.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

Box = Sequence[float]
"""x, y and heading of the centre, length and width."""


def collide(pairs: Sequence[Sequence[Box]]) -> list[bool]:
    """Whether the boxes of each pair meet, by the checker's oriented rectangles."""
    from commonroad_dc.pycrcc import RectOBB

    shapes = [[RectOBB(a / 2, b / 2, yaw, x, y) for x, y, yaw, a, b in pair] for pair in pairs]
    return [one.collide(other) for one, other in shapes]


def first_contacts(tracks: Sequence[Sequence[Sequence[Box]]]) -> list[int | None]:
    """The first step at which each pair of moving boxes meets, by the collision checker.

    Args:
        tracks: For each pair, two lists of boxes, one for each step.
    """
    from commonroad_dc.pycrcc import CollisionChecker, RectOBB, TimeVariantCollisionObject

    found: list[int | None] = []
    for ego, other in tracks:
        moving = [TimeVariantCollisionObject(0) for _ in range(2)]
        for one, boxes in zip(moving, (ego, other), strict=True):
            for x, y, yaw, length, width in boxes:
                one.append_obstacle(RectOBB(length / 2, width / 2, yaw, x, y))
        checker = CollisionChecker()
        checker.add_collision_object(moving[1])
        steps = range(len(ego))
        found.append(
            next((k for k in steps if checker.time_slice(k).collide(moving[0].obstacle_at_time(k))), None)
        )  # fmt: skip
    return found


def times_to_collision(
    egos: Sequence[tuple[Sequence[float], Sequence[Sequence[float]]]],
) -> list[list[float | None]]:
    """TTC of egos with others ahead of them in a straight lane, by CriMe; None if infinite.

    Args:
        egos: Speed and length of each ego, whose centre is at 0; then centre, speed and length
            of the others.
    """
    import numpy as np
    from commonroad.geometry.shape import Rectangle
    from commonroad.prediction.prediction import TrajectoryPrediction
    from commonroad.scenario.lanelet import Lanelet, LaneletNetwork
    from commonroad.scenario.obstacle import DynamicObstacle, ObstacleType
    from commonroad.scenario.scenario import Scenario, ScenarioID
    from commonroad.scenario.state import InitialState
    from commonroad.scenario.trajectory import Trajectory
    from commonroad_crime.data_structure.configuration import CriMeConfiguration
    from commonroad_crime.measure import TTC

    logging.disable(logging.CRITICAL)

    def car(number: int, x: float, speed: float, length: float) -> DynamicObstacle:
        states = [
            InitialState(
                time_step=k, position=np.array([x + 0.1 * k * speed, 0.0]), orientation=0.0,
                velocity=speed, acceleration=0.0, yaw_rate=0.0, slip_angle=0.0,
            )
            for k in range(3)
        ]  # fmt: skip
        shape = Rectangle(length, 2.0)
        path = TrajectoryPrediction(
            Trajectory(1, states[1:]), shape,
            center_lanelet_assignment={k: {1} for k in range(3)},
        )  # fmt: skip
        return DynamicObstacle(
            number, ObstacleType.CAR, shape, states[0], path,
            initial_center_lanelet_ids={1}, initial_shape_lanelet_ids={1},
        )  # fmt: skip

    x = np.arange(-50.0, 600.0, 5.0)
    left, centre, right = (np.stack([x, np.full(len(x), y)], axis=1) for y in (8.0, 0.0, -8.0))
    found: list[list[float | None]] = []
    for (speed, length), others in egos:
        scenario = Scenario(0.1, ScenarioID())
        lane = Lanelet(left, centre, right, 1)
        scenario.add_objects(LaneletNetwork.create_from_lanelet_list([lane]))
        cars = [car(11 + i, *other) for i, other in enumerate(others)]
        scenario.add_objects([car(10, 0.0, speed, length), *cars])
        configuration = CriMeConfiguration()
        configuration.update(ego_id=10, sce=scenario)
        measure = TTC(configuration)
        times = [float(measure.compute(one.obstacle_id, 0, verbose=False)) for one in cars]
        found.append([time_s if np.isfinite(time_s) else None for time_s in times])
    return found


def main() -> None:
    """Answer the questions of the document; an absent question has no answer."""
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # CriMe prints
        answers = {
            "versions": {n: version(n) for n in ("commonroad-drivability-checker", "commonroad-crime")},
            "collide": collide(asked["collide"]),
            "first_contacts": first_contacts(asked["first_contacts"]),
            "ttc": times_to_collision(asked["ttc"]),
        }  # fmt: skip
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
