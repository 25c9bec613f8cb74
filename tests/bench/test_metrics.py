"""The benchmark of scores measures what it says, and checks what it times."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from omniloop.bench import metrics as bench
from omniloop.bench.metrics_contacts import Found, by_metrics, in_arrays, one_by_one
from omniloop.bench.metrics_scenes import crowded_scene
from omniloop.cli.main import app
from omniloop.core.errors import ConfigError
from omniloop.core.time import US_PER_S
from tests.metrics.records import Body, moving, record, still
from tests.metrics.test_invariance import random_record

SECONDS, ACTORS = 2.0, 12


def scenes_of(part: dict) -> dict:
    return {name: value for name, value in part.items() if name != "target"}


def test_every_part_measures_and_checks_both_made_scenes() -> None:
    measured = bench.run(["families", "contacts", "online"], (), ACTORS, SECONDS, repeat=1)
    every_part_tells_of_both_made_scenes(measured)
    the_crowd_is_near_and_is_touched(measured)
    scores_during_a_rollout_are_those_from_its_log(measured)


def every_part_tells_of_both_made_scenes(measured: dict) -> None:
    assert json.loads(json.dumps(measured)) == measured
    for part in measured.values():
        assert set(scenes_of(part)) == {"synthetic_12_actors", "crowded_12_actors"}
    for found in scenes_of(measured["families"]).values():
        assert found["rollout"]["simulated_s"] == SECONDS
        assert found["rollout"]["actors"] == ACTORS
        assert found["rollout"]["plans"] == 10 * SECONDS
        assert found["rollout"]["lanes"] > 0
        assert set(found["alone"]) == {"omniloop", "alpasim", "nuplan", "navsim"}
        times = [found["one_after_the_other"]["all"], *found["alone"].values()]
        assert all(0 < spent["ms"]["min"] <= spent["ms"]["max"] for spent in times)
        assert all(0 <= spent["cpu_ms"]["min"] <= spent["cpu_ms"]["max"] for spent in times)


def the_crowd_is_near_and_is_touched(measured: dict) -> None:
    crowded = measured["contacts"]["crowded_12_actors"]
    assert crowded["rollout"]["near_actors_a_step"] > 3
    assert crowded["contacts"] >= 1
    ours, brute = (min(crowded[way]["cpu_ms"].values()) for way in ("ours", "one_by_one"))
    assert crowded["one_by_one_to_ours"] == pytest.approx(brute / ours, abs=0.06, rel=0.02)


def scores_during_a_rollout_are_those_from_its_log(measured: dict) -> None:
    for found in scenes_of(measured["online"]).values():
        assert found["identical"] is True
        assert found["scores"] > 80
        assert found["scores_with_a_value"] > 60
        assert 0 <= found["scoring_share"] <= 1
        assert found["watch_ms_per_step"] > 0


@pytest.mark.parametrize("seed", range(30))
def test_brute_force_finds_the_same_contacts(seed: int) -> None:
    made = random_record(seed, duration_s=2.0)
    assert one_by_one(made) == in_arrays(made) == by_metrics(made)


def test_brute_force_tells_kinds_parting_and_heights() -> None:
    handover_us = 1_500_000
    made = record(
        moving(0, 0, 10),
        [
            Body(still(14, 0), id="ahead"), Body(still(1, 1.5), id="leaning"),
            Body(still(14, 0), z=8.0, id="bridge"), Body(still(30, 0), id="farther"),
        ],
    )  # fmt: skip
    found = one_by_one(made)
    assert found == in_arrays(made) == by_metrics(made)
    assert [name for name, *_ in found.contacts] == ["ahead"]
    assert found.contacts[0][1] == handover_us + 920_000  # 3 m ahead of the rig, 2 m of the car
    assert found.contacts[0][3] == "front"
    assert [name for name, _ in found.ignored] == ["leaning"]
    parted_us = found.ignored[0][1]
    assert parted_us is not None
    assert parted_us / US_PER_S == pytest.approx(1.9, abs=0.021)


def test_other_contacts_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "in_arrays", lambda _: Found((), (("nobody", None),)))
    with pytest.raises(bench.Differs, match="nobody"):
        bench.run(["contacts"], ["scenes=embedded", "scenes.ids=curve", "sync.duration_s=3"])


def test_other_scores_from_the_log_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench.score

    def wrong(*args: object) -> list:
        return [v if v.name != "contacts" else type(v)(v.name, -1.0) for v in made(*args)]

    monkeypatch.setattr(bench, "score", wrong)
    with pytest.raises(bench.Differs, match="differ: contacts"):
        bench.run(["online"], ["scenes=embedded", "scenes.ids=curve", "sync.duration_s=3"])


def test_unknown_parts_and_no_repeats_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown part 'familys'"):
        bench.run(["familys"])
    with pytest.raises(ConfigError, match="repeat is 0"):
        bench.run(["online"], repeat=0)


def test_the_command_takes_parts_and_settings_in_any_order() -> None:
    settings = ["scenes=embedded", "scenes.ids=curve", "sync.duration_s=2"]
    outcome = CliRunner().invoke(
        app, ["bench", "metrics", *settings, "contacts", "--repeat", "1"]
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    assert set(scenes_of(json.loads(outcome.stdout)["contacts"])) == {"curve"}


def test_the_crowd_moves_in_lanes_of_the_map() -> None:
    scene = crowded_scene(60, 20.0)
    assert len(scene.tracks) == 60
    assert len({track.actor.id for track in scene.tracks}) == 60
    assert scene.end_us - scene.start_us == 20 * US_PER_S
