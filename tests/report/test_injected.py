from __future__ import annotations

from omniloop.report.injected import injected_lines, injected_settings
from omniloop.runlog.results import RolloutResult


def result(**facts: dict[str, object]) -> RolloutResult:
    return RolloutResult("scene", 0, "scene/0", "completed", facts=facts)


def camera(frames: int, lost: int, delayed: int, mean_us: float, most_us: int) -> dict:
    return {
        "frames": frames, "lost": lost, "delayed": delayed,
        "delay_mean_us": mean_us, "delay_max_us": most_us,
    }  # fmt: skip


def injected(**kinds: object) -> dict[str, object]:
    return {"imperfection": kinds}


def test_sums_are_over_cameras_and_rollouts():
    one = result(renderer=injected(frames={"a": camera(10, 1, 4, 1000.0, 2000), "b": camera(10, 0, 0, 0.0, 0)}))  # fmt: skip
    two = result(renderer=injected(frames={"a": camera(20, 3, 12, 5000.0, 9000)}))
    ((kind, label, text),) = injected_lines([one, two])
    assert (kind, label) == ("frames", "frames")
    assert text == "4 of 40 lost (10.0 %); 16 late, 4 ms on average, 9 ms at most"


def test_a_mean_is_over_decisions_and_a_root_mean_square_over_rollouts():
    ego = {
        "delay_us": 0, "position_rms_m": 3.0, "position_max_m": 4.0, "yaw_rms_rad": 0.0,
        "yaw_max_rad": 0.0, "speed_rms_mps": 0.0, "speed_max_mps": 0.0,
    }  # fmt: skip
    still = {**ego, "position_rms_m": 4.0, "position_max_m": 9.0}
    slow = {"decisions": 1, "min_us": 1000, "mean_us": 1000.0, "max_us": 1000}
    fast = {"decisions": 3, "min_us": 5000, "mean_us": 5000.0, "max_us": 6000}
    lines = injected_lines(
        [
            result(imperfection={"ego_motion": ego, "latency": slow}),
            result(imperfection={"ego_motion": still, "latency": fast}),
        ]
    )
    assert [kind for kind, _, _ in lines] == ["ego_motion", "latency"]
    assert lines[0][2].startswith("position off by 3.54 m rms, 9 m at most;")
    assert lines[1][2] == "1 ms to 6 ms, 4 ms on average, over 4 decisions"


def test_services_that_miss_actors_stand_apart_and_other_facts_are_left_alone():
    spells = {"spells": 2, "actors": 1, "actor_s": 1.25}
    told = result(
        policy=injected(actor_dropout=spells), ground={"ego": {"SUCCESSFUL_UPDATE": 5}},
        renderer={**injected(actor_dropout=spells, image={}), "other": 1},
    )  # fmt: skip
    lines = {kind: text for kind, _, text in injected_lines([told, told])}
    assert lines["actor_dropout"] == (
        "policy: 4 spells, 2.5 actor-seconds; renderer: 4 spells, 2.5 actor-seconds"
    )
    assert lines["image"] == "no picture"


def test_nothing_injected_is_no_line():
    assert injected_lines([result(), result(ground={"ego": {}})]) == []


def test_settings_are_those_that_are_on():
    config = {"imperfection": {"frames": {"loss": 0.1, "burst_frames": None, "delay_us": 0}}}
    assert injected_settings(config, "frames") == "loss=0.1"
    assert injected_settings({}, "frames") == ""
