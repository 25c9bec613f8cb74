from __future__ import annotations

import json
from pathlib import Path

import pytest

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, OmniloopError, RunFolderError, SceneError
from omniloop.report.html import write_report
from omniloop.report.runs import read_run
from omniloop.runlog import results
from omniloop.runlog.digest import digest_run
from omniloop.runlog.folder import rollout_dir
from omniloop.runner.rescore import rescore
from omniloop.runner.run import Finished, execute

QUICK = ("renderer=none", "sync.duration_s=1.5", "scenes.ids=straight_road,curve")


def run(folder: Path, *settings: str, name: str = "run") -> Finished:
    return execute(compose([f"run.dir={folder}", f"run.name={name}", *settings]))


def outcomes(finished: Finished) -> dict[tuple[str, int], str]:
    return {result.key: result.outcome for result in finished.results}


@pytest.mark.parametrize("sync", ["prefetch", "postfetch"])
def test_neither_digests_nor_bytes_of_logs_depend_on_concurrency(tmp_path, sync):
    settings = (
        f"sync={sync}",
        "sync.duration_s=1",
        "scenes.ids=straight_road,cut_in",
        "run.seeds=4",
    )
    size = ("renderer.width=64", "renderer.height=48")
    run(tmp_path, *settings, *size, "run.concurrency=1", name="one")
    run(tmp_path, *settings, *size, "run.concurrency=8", name="eight")
    one = digest_run(tmp_path / "one")
    assert one == digest_run(tmp_path / "eight")
    assert [name for _, name in one] == [
        f"{s}/{k}" for s in ("cut_in", "straight_road") for k in range(4)
    ]
    for log in sorted((tmp_path / "one").glob("rollouts/*/*/log.mcap")):
        other = tmp_path / "eight" / log.relative_to(tmp_path / "one")
        assert log.read_bytes() == other.read_bytes()


def test_seeds_change_service_seeds_and_the_root_seed_changes_them_all(tmp_path):
    first = run(tmp_path, *QUICK, "run.seeds=2", name="a").results
    other = run(tmp_path, *QUICK, "run.seeds=2", "run.root_seed=1", name="b").results
    seen = [seed for result in (*first, *other) for seed in result.seeds.values()]
    assert len(set(seen)) == len(seen)


def test_a_policy_that_fails_takes_no_other_rollout_down(tmp_path):
    finished = run(
        tmp_path, *QUICK, "policy=tests.plugins:FailsOnSeedOne", "run.seeds=3", "run.concurrency=4"
    )
    for (_, seed), outcome in outcomes(finished).items():
        assert outcome == ("policy_failed" if seed == 1 else "completed")
    assert finished.exit_code == 0
    failed = next(r for r in finished.results if r.seed == 1)
    assert "out of ideas" in failed.error["what"]
    assert all(
        not value.valid and "out of ideas" in value.reason for value in failed.metrics.values()
    )


def test_infrastructure_failure_is_an_exit_code_and_is_retried_on_resume(tmp_path):
    finished = run(
        tmp_path, *QUICK, "traffic=tests.plugins:BrokenTraffic", "run.seeds=2", "run.retries=0"
    )
    assert finished.exit_code == 1
    assert outcomes(finished)["curve", 1] == "infrastructure_failed"
    assert outcomes(finished)["curve", 0] == "completed"
    again = run(
        tmp_path,
        *QUICK,
        "traffic=tests.plugins:BrokenTraffic",
        "run.seeds=2",
        "run.resume=true",
        "run.retries=0",
    )
    assert again.resumed == 2
    assert {r.attempts for r in again.results if r.seed == 1} == {2}
    assert {r.attempts for r in again.results if r.seed == 0} == {1}


def test_every_result_is_read_once_and_that_of_a_rollout_that_ran_is_read_anew(
    tmp_path, monkeypatch
):
    settings = (*QUICK, "run.seeds=2", "run.resume=true", "run.concurrency=1")
    first = run(tmp_path, *settings)
    gone = tmp_path / "run/rollouts/curve/1/result.json"
    read, really_read = [], results.read_result

    def counted(path):
        read.append(path)
        return really_read(path)

    monkeypatch.setattr(results, "read_result", counted)
    for removed in (False, True):
        if removed:
            gone.unlink()
        read.clear()
        finished = run(tmp_path, *settings)
        write_report(finished.run_dir, finished.found)
        assert read_run(finished.run_dir, finished.found).results == tuple(finished.found.results)
        assert finished.resumed == 4 - removed
        assert sorted(read) == sorted((tmp_path / "run/rollouts").glob("*/*/result.json"))
        assert read[-1] == gone or not removed
        assert [r.key for r in finished.results] == [r.key for r in first.results]
        assert finished.results == [
            really_read(rollout_dir(finished.run_dir, *r.key) / "result.json")
            for r in first.results
        ]


@pytest.mark.parametrize(
    ("setting", "outcome", "what"),
    [
        ("policy=tests.plugins:BarePlan", "policy_failed", "not a NoneType"),
        ("policy=tests.plugins:NoPlan", "policy_failed", "returned a NoneType, not a Plan"),
        ("controller=tests.plugins:Silent", "infrastructure_failed", "not an EgoMotion"),
        ("traffic=tests.plugins:Silent", "infrastructure_failed", "not an ActorMotion"),
        ("ground=tests.plugins:Silent", "infrastructure_failed", "not a GroundResult"),
        (
            "ground=tests.plugins:FlatPoses",
            "infrastructure_failed",
            "the ground answered with poses",
        ),
        ("ground=tests.plugins:GroundInPlace", "infrastructure_failed", "read-only"),
    ],
)
def test_an_answer_of_the_wrong_kind_fails_the_rollout_not_the_run(
    tmp_path, setting, outcome, what
):
    finished = run(tmp_path, *QUICK, setting)
    assert [result.outcome for result in finished.results] == [outcome] * 2
    assert all(what in result.error["what"] for result in finished.results)
    assert finished.exit_code == (outcome == "infrastructure_failed")


def test_a_session_that_cannot_be_closed_hides_no_earlier_failure(tmp_path):
    finished = run(
        tmp_path, *QUICK, "policy=tests.plugins:ClosesBadly",
        "traffic=tests.plugins:BrokenTraffic", "run.seeds=2",
    )  # fmt: skip
    assert outcomes(finished)["curve", 0] == "policy_failed"
    assert outcomes(finished)["curve", 1] == "infrastructure_failed"


def test_a_video_that_fails_takes_no_other_rollout_down(tmp_path, monkeypatch):
    pytest.importorskip("av")

    def broken(log: Path, target: Path, **_: object) -> None:
        if "curve" in target.name:
            raise RuntimeError("the encoder died")

    monkeypatch.setattr("omniloop.report.video.video_from_log", broken)
    finished = run(tmp_path, *QUICK, "run.video=true")
    assert outcomes(finished) == {
        ("straight_road", 0): "completed", ("curve", 0): "infrastructure_failed",
    }  # fmt: skip
    failed = next(r for r in finished.results if r.scene == "curve")
    assert "the encoder died" in failed.error["what"]
    assert finished.exit_code == 1


def test_an_existing_folder_is_left_alone_and_remedies_and_other_settings_are_named(tmp_path):
    run(tmp_path, *QUICK)
    before = {p: p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("*"))}
    with pytest.raises(RunFolderError) as caught:
        run(tmp_path, *QUICK)
    assert "run.resume=true" in str(caught.value)
    assert "run.name=" in str(caught.value)
    assert str(tmp_path / "run") in str(caught.value)
    assert before == {p: p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("*"))}
    with pytest.raises(OmniloopError, match="policy"):
        run(tmp_path, *QUICK, "policy=constant_velocity", "run.resume=true")


def test_resume_runs_what_is_missing_and_only_that(tmp_path):
    run(tmp_path, *QUICK, "run.seeds=2")
    kept = tmp_path / "run/rollouts/curve/0/log.mcap"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "run/rollouts/straight_road/1/result.json").unlink()
    (tmp_path / "run/rollouts/curve/1/result.json").write_text('{"schema": "omniloop-res')
    digests = digest_run(tmp_path / "run")
    finished = run(tmp_path, *QUICK, "run.seeds=2", "run.resume=true")
    assert finished.resumed == 2
    assert kept.stat().st_mtime_ns == stamp
    assert set(outcomes(finished).values()) == {"completed"}
    assert len(finished.results) == 4
    assert set(digests) <= set(digest_run(tmp_path / "run"))


def test_scores_from_logs_alone_are_identical_and_what_was_changed_is_shown(tmp_path):
    finished = run(
        tmp_path,
        "scenes.ids=cut_in",
        "policy=tests.plugins:Straight",
        "policy.speed_mps=25",
        "renderer=none",
    )
    again = rescore(tmp_path / "run")
    assert again.changes == []
    assert again.results[0].metrics == finished.results[0].metrics
    assert finished.results[0].metrics["incident"].value == 1.0
    result = tmp_path / "run/rollouts/cut_in/0/result.json"
    document = json.loads(result.read_text())
    document["metrics"]["contacts"]["value"] = 99.0
    result.write_text(json.dumps(document))
    changes = rescore(tmp_path / "run").changes
    assert any("contacts: 99.0 -> " in line for line in changes)


def test_a_rollout_stops_on_the_first_collision_when_asked(tmp_path):
    settings = (
        "scenes.ids=stopped_lead",
        "policy=tests.plugins:Straight",
        "policy.speed_mps=15",
        "renderer=none",
    )
    whole = run(tmp_path, *settings, name="whole").results[0]
    stopped = run(tmp_path, *settings, "run.stop_on=collision", name="stopped").results[0]
    assert whole.metrics["collision"].value == stopped.metrics["collision"].value == 1.0
    assert stopped.stopped_by == "collision"
    assert stopped.end_us < whole.end_us
    assert stopped.outcome == "completed"


def test_scenes_too_short_for_their_warm_up_are_excluded_and_listed(tmp_path):
    from omniloop.scenes.embedded import synthetic_scene
    from omniloop.scenes.native import write_bundle

    for name, seconds in (("short", 2.0), ("long", 6.0)):
        scene = synthetic_scene(2, seconds)
        object.__setattr__(scene, "id", name)
        write_bundle(scene, tmp_path / "scenes" / f"{name}.zip")
    scenes = ("scenes=native", f"scenes.path={tmp_path}/scenes", "renderer=none")
    finished = run(tmp_path, *scenes, "sync.warmup_s=3")
    assert [e.scene_id for e in finished.setup.exclusions] == ["short"]
    assert [r.scene for r in finished.results] == ["long"]
    assert "short" in (tmp_path / "run/run.yaml").read_text()
    with pytest.raises(SceneError, match="every scene is excluded"):
        run(tmp_path, *scenes, "sync.warmup_s=30", name="none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("scenes.ids=strait_road",), "Did you mean 'straight_road'?"),
        (("scenes=av2",), "scenes=av2 needs a path"),
        (("scenes=av2", "scenes.path=/no/such/folder"), "/no/such/folder"),
        (("renderer.chunk=7",), "7"),
        (("renderer.width=333",), "333"),
        (("renderer.cameras=[rear]",), "camera 'rear' is not in the scene"),
        (("policy.speed=3",), "has no setting 'speed'"),
        (("sync.decisions_per_chunk=2",), "sync=postfetch"),
        (("sync=postfetch", "sync.decisions_per_chunk=3"), "3 decisions of whole frames"),
        (
            ("policy=tests.plugins:Straight", "sync.decision_latency_us=3000000"),
            "plans 3.0 s ahead",
        ),
        (("ground=raster",), "raster"),
    ],
)
def test_bad_input_is_found_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(OmniloopError) as caught:
        run(tmp_path, *settings)
    assert message in str(caught.value)
    assert caught.value.remedy or isinstance(caught.value, ConfigError)
    assert not (tmp_path / "run").exists()


def test_decisions_and_throttling_are_stated(tmp_path):
    result = run(
        tmp_path,
        "scenes.ids=curve",
        "sync.duration_s=2",
        "renderer.width=64",
        "renderer.height=48",
    ).results[0]
    assert result.decision_period_us == 266_664
    if result.throttled is not None:
        assert result.throttled["declared_hz"] > result.throttled["actual_hz"]
    assert result.privileged == ["actors"]


@pytest.mark.parametrize("latency_us", [100_000, 200_000, 500_000])
def test_decision_latency_costs_comfort_not_sanity(tmp_path, latency_us):
    settings = (
        "scenes.ids=curve",
        "renderer=none",
        "sync.warmup_s=1",
        f"sync.decision_latency_us={latency_us}",
    )
    result = run(tmp_path, *settings).results[0]
    assert result.outcome == "completed"
    assert result.metrics["path_distance_max_m"].value < 1.0
    assert 0.8 < result.metrics["progress_rel"].value < 1.2


def test_stopping_off_road_without_a_drivable_surface_is_noted(tmp_path):
    from dataclasses import replace

    from omniloop.core.scene import VectorMap
    from omniloop.scenes.embedded import synthetic_scene
    from omniloop.scenes.native import write_bundle

    write_bundle(
        replace(synthetic_scene(2, 4.0), map=VectorMap()), tmp_path / "scenes" / "bare.zip"
    )
    scenes = ("scenes=native", f"scenes.path={tmp_path}/scenes", "renderer=none")
    result = run(tmp_path, *scenes, "run.stop_on=offroad").results[0]
    assert "run.stop_on=offroad cannot be told here" in result.notices[0]
    assert not result.metrics["offroad"].valid


EVICTED = ("renderer=tests.plugins:Evicted", "scenes.ids=straight_road", "sync.duration_s=1")


def test_a_rollout_whose_renderer_gave_its_session_away_is_simulated_again(tmp_path):
    run(tmp_path, *EVICTED, "renderer.losses=0", name="at_once")
    for losses in (1, 2):
        again = run(tmp_path, *EVICTED, f"renderer.losses={losses}", name=f"{losses}").results[0]
        assert again.outcome == "completed"
        times = f"simulated {losses + 1} times"
        assert again.notices == [f"{times}: the renderer's session was evicted"]
        assert digest_run(tmp_path / f"{losses}") == digest_run(tmp_path / "at_once")


def test_a_rollout_is_simulated_three_times_at_most(tmp_path):
    result = run(tmp_path, *EVICTED, "renderer.losses=3", "run.retries=0").results[0]
    assert result.outcome == "infrastructure_failed"
    assert result.error["type"] == "SessionEvicted"
