from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from omniloop.configs.compose import compose
from omniloop.configs.schema import RunConfig
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.imperfection.settings import ImperfectionSettings
from omniloop.metrics.scoring import score
from omniloop.report.html import write_report
from omniloop.runlog import messages as topics
from omniloop.runlog.codec import decode
from omniloop.runlog.digest import digest_run
from omniloop.runlog.reader import LogReader, iter_frames
from omniloop.runlog.record import read_record
from omniloop.runlog.results import RolloutResult
from omniloop.runner.rescore import rescore
from omniloop.runner.run import Finished, execute
from tests.imperfection.watching import Watcher
from tests.runlog.samples import assert_same_bits

SMALL = (
    "scenes.ids=cut_in", "sync.duration_s=3", "renderer.width=64", "renderer.height=48",
)  # fmt: skip
WATCHED = (*SMALL, "policy=tests.imperfection.watching:Watcher")
CAMERA = "camera_front_wide_120fov"


def run(folder: Path, *settings: str, name: str = "run") -> Finished:
    Watcher.told.clear()
    finished = execute(compose([f"run.dir={folder}", f"run.name={name}", *settings]))
    assert [r.outcome for r in finished.results] == ["completed"] * len(finished.results)
    return finished


def only(finished: Finished) -> RolloutResult:
    (result,) = finished.results
    return result


def log_of(folder: Path, name: str = "run") -> Path:
    return folder / name / "rollouts/cut_in/0/log.mcap"


@pytest.mark.parametrize("sync", ["prefetch", "postfetch"])
def test_with_all_on_the_digest_does_not_depend_on_concurrency(tmp_path, sync):
    settings = (*SMALL, "imperfection=all", "run.seeds=4", f"sync={sync}", "sync.duration_s=1.5")
    for name, count in (("one", 1), ("four", 4)):
        run(tmp_path, *settings, f"run.concurrency={count}", name=name)
    one = digest_run(tmp_path / "one")
    assert one == digest_run(tmp_path / "four")
    assert len({sha256 for sha256, _ in one}) == 4


def test_with_all_on_it_goes_through_the_wire_twice_the_same(tmp_path):
    settings = (*SMALL, "imperfection=all", "sync.duration_s=1.5")
    wire = (*settings, "run.wire_precision=float32")
    one, two = (run(tmp_path, *wire, name=name) for name in ("one", "two"))
    assert digest_run(one.run_dir) == digest_run(two.run_dir)
    plain = only(run(tmp_path, *settings, name="plain"))
    assert only(one).facts["renderer"] == plain.facts["renderer"]
    assert only(one).facts["policy"] == plain.facts["policy"]


def test_a_run_without_any_is_as_it_was_before_there_were_any(tmp_path, monkeypatch):
    off = run(tmp_path, *SMALL, name="off")
    monkeypatch.setattr("omniloop.runner.assemble.with_imperfections", lambda services, _: services)
    monkeypatch.setattr("omniloop.runner.job.ego_estimator", lambda *_: None)
    monkeypatch.setattr("omniloop.runner.job.extra_latency_us", lambda *_: None)
    bare = run(tmp_path, *SMALL, name="bare")
    assert digest_run(off.run_dir) == digest_run(bare.run_dir)
    assert log_of(tmp_path, "off").read_bytes() == log_of(tmp_path, "bare").read_bytes()
    assert "imperfection" not in LogReader(log_of(tmp_path, "off")).header().config
    assert not any("imperfection" in facts for facts in only(off).facts.values())
    assert "Injected" not in write_report(off.run_dir).read_text()
    assert read_record(log_of(tmp_path, "off")).lost_frames == ()
    assert "no decision" in only(off).metrics["fault_plan_deviation_m"].reason


def test_lost_frames_are_logged_and_never_delivered_and_header_and_run_yaml_tell_of_them(tmp_path):
    result = only(run(tmp_path, *WATCHED, "imperfection.frames.loss=0.3"))
    facts = result.facts["renderer"]["imperfection"]["frames"][CAMERA]
    lost = [
        (decode(topics.LOST_FRAME, m.data), m.time_us)
        for m in LogReader(log_of(tmp_path)).messages({topics.LOST_FRAME})
    ]
    delivered = [frame.capture_us for frame in iter_frames(log_of(tmp_path))]
    gone = [frame.capture_us for frame, _ in lost]
    assert len(gone) == facts["lost"] > 10
    assert len(delivered) == facts["frames"] - facts["lost"] == result.frames[CAMERA]
    assert not set(gone) & set(delivered)
    assert np.array_equal(np.diff(sorted([*gone, *delivered])), [33_333] * (facts["frames"] - 1))
    assert all(frame.available_us == at == frame.capture_us for frame, at in lost)
    seen = {f.capture_us for o in Watcher.told for f in o.frames[CAMERA]}
    assert seen <= set(delivered)
    history = [f.capture_us for f in Watcher.told[0].frames[CAMERA]]
    assert len(set(history)) == 4, "nothing is missing at the first decision"
    assert set(history) <= set(delivered[:5])
    config = LogReader(log_of(tmp_path)).header().config
    assert config["imperfection"]["frames"]["loss"] == 0.3
    assert list(config["imperfection"]) == ["frames"]
    with pytest.raises(RunFolderError, match="imperfection"):
        execute(compose([f"run.dir={tmp_path}", "run.name=run", "run.resume=true", *WATCHED]))


@pytest.mark.parametrize("extra", [(), ("sync=postfetch",), ("run.wire_precision=float32",)])
def test_lost_frames_are_the_same_in_the_record_and_in_that_of_the_log(
    tmp_path, monkeypatch, extra
):
    records = []
    monkeypatch.setattr(
        "omniloop.runner.job.score", lambda r, metrics: records.append(r) or score(r, metrics)
    )
    result = only(run(tmp_path, *SMALL, "imperfection.frames.loss=0.1", *extra))
    (lost,) = records[0].lost_frames
    assert lost.camera_id == CAMERA
    counted = result.facts["renderer"]["imperfection"]["frames"][CAMERA]["lost"]
    assert 0 < len(lost.capture_us) == counted
    assert (lost.available_us >= lost.capture_us).all()
    assert_same_bits(read_record(log_of(tmp_path)).lost_frames, records[0].lost_frames)
    assert result.metrics["fault_plan_deviation_m"].valid
    assert result.metrics["fault_speed_change_mps"].valid
    assert rescore(tmp_path / "run").changes == []


@pytest.mark.parametrize("policy", ["Watcher", "Driver"])
@pytest.mark.parametrize("chunk", [0, 8])
def test_a_delayed_frame_arrives_at_its_time_in_order(tmp_path, policy, chunk):
    run(
        tmp_path, *SMALL, f"policy=tests.imperfection.watching:{policy}", f"renderer.chunk={chunk}",
        "imperfection.frames.delay_us=40000", "imperfection.frames.jitter_us=60000",
    )  # fmt: skip
    frames = list(iter_frames(log_of(tmp_path)))
    times = [
        m.time_us for m in LogReader(log_of(tmp_path)).messages({topics.CAMERA_PREFIX + CAMERA})
    ]
    assert times == sorted(times) == [f.available_us for f in frames]
    assert [f.capture_us for f in frames] == sorted(f.capture_us for f in frames)
    first_decision_us = Watcher.told[0].time_us
    for frame in frames:
        late_us = frame.available_us - frame.capture_us
        assert late_us == 0 if frame.capture_us <= first_decision_us else 40_000 <= late_us <= 100_000  # fmt: skip
    for observation in Watcher.told:
        held = observation.frames[CAMERA]
        assert all(f.available_us <= observation.time_us for f in held)
        assert [f.capture_us for f in held] == sorted(f.capture_us for f in held)
    if policy == "Driver":
        assert (
            len({f.capture_us for o in Watcher.told for f in o.frames[CAMERA]}) >= len(frames) - 8
        )


def test_prefetch_and_postfetch_and_chunks_lose_the_same_frames(tmp_path):
    lost = []
    variants = (
        "sync=prefetch", "sync=postfetch", "renderer.chunk=12", "renderer.chunk=0",
    )  # fmt: skip
    for k, variant in enumerate(variants):
        settings = (*WATCHED, "imperfection.frames.loss=0.2", "imperfection.frames.burst_frames=3")
        run(tmp_path, *settings, variant, "renderer.fps=30", name=str(k))
        log = LogReader(log_of(tmp_path, str(k)))
        captures = [
            decode(topics.LOST_FRAME, m.data).capture_us for m in log.messages({topics.LOST_FRAME})
        ]
        # After the longest initial request, and before the shortest end.
        lost.append([t for t in captures if 400_000 < t <= 3_000_000])
    assert len(lost[0]) > 5
    assert lost[0] == lost[1] == lost[2] == lost[3]


def test_the_policy_is_told_the_estimate_while_scores_see_the_truth(tmp_path):
    settings = (
        "imperfection.ego_motion.across_m=0.5", "imperfection.ego_motion.delay_us=100000",
    )  # fmt: skip
    finished = run(tmp_path, *WATCHED, "renderer.chunk=0", *settings)
    record = read_record(log_of(tmp_path))
    for observation in Watcher.told[5:]:
        told, at = observation.ego.local_to_rig[-1], observation.time_us
        true = record.ego.trajectory.sample(at)[0]
        assert not np.allclose(told[:2], true[:2], atol=1e-3)
        assert np.array_equal(told, record.ego_estimated.trajectory.sample(at)[0])
        ago = record.ego.trajectory.sample(at - 100_000)[0]
        assert told[0] == pytest.approx(ago[0], abs=0.01)  # the road runs along x
    again = {value.name: value for value in score(record, finished.setup.metrics)}
    assert again == only(finished).metrics
    blind = score(
        type(record)(**{**vars(record), "ego_estimated": record.ego}), finished.setup.metrics
    )
    # Only the reaction to what was injected looks at the estimate.
    assert {v.name: v for v in blind if not v.name.startswith("fault_")} == {
        name: value for name, value in again.items() if not name.startswith("fault_")
    }
    facts = only(finished).facts["imperfection"]["ego_motion"]
    error = np.linalg.norm(
        (record.ego_estimated.local_to_rig - record.ego.local_to_rig)[:, :2], axis=1
    )
    after = record.ego.times_us >= record.schedule.handover_us
    assert facts["position_max_m"] == pytest.approx(error[after].max(), rel=0.05)
    assert facts["position_rms_m"] == pytest.approx(np.sqrt((error[after] ** 2).mean()), rel=0.05)


def test_without_a_policy_that_uses_it_noise_leaves_the_drive_alone(tmp_path):
    """A plan relative to the estimate is anchored at the truth: no bias and no drift of norms."""
    quiet = only(run(tmp_path, *WATCHED, "renderer.chunk=0", name="quiet"))
    noisy = only(run(tmp_path, *WATCHED, "renderer.chunk=0", "imperfection.ego_motion.yaw_rad=0.2", "imperfection.ego_motion.along_m=3", "imperfection.ego_motion.delay_us=100000", name="noisy"))  # fmt: skip
    for name in ("path_distance_max_m", "progress_rel"):
        assert noisy.metrics[name].value == pytest.approx(quiet.metrics[name].value, abs=1e-6)
    ego = read_record(log_of(tmp_path, "noisy")).ego
    assert np.allclose(np.linalg.norm(ego.local_to_rig[:, 3:], axis=1), 1, atol=1e-12)


def test_actors_vanish_from_what_is_sensed_and_not_from_the_truth(tmp_path):
    off = run(tmp_path, *WATCHED, name="off")
    whole = [o.actor_motion for o in Watcher.told]
    on = run(tmp_path, *WATCHED, "imperfection.actor_dropout.spells_per_s=1", name="on")
    sensed = [o.actor_motion for o in Watcher.told]
    gone = whole[-1].valid & ~sensed[-1].valid
    assert gone.any()
    assert not (sensed[-1].valid & ~whole[-1].valid).any()
    for early, late in pairwise(sensed):
        assert np.array_equal(late.valid[:, : early.valid.shape[1]], early.valid)
    truth = [read_record(log_of(tmp_path, name)).actors for name in ("off", "on")]
    assert np.array_equal(truth[0].valid, truth[1].valid)
    assert np.array_equal(truth[0].local_to_aabb, truth[1].local_to_aabb)
    assert only(off).metrics == only(on).metrics
    pictures = [
        {f.capture_us: f.image for f in iter_frames(log_of(tmp_path, n))} for n in ("off", "on")
    ]
    assert pictures[0] != pictures[1]
    assert pictures[0].keys() == pictures[1].keys()
    facts = {k: only(on).facts[k]["imperfection"]["actor_dropout"] for k in ("policy", "renderer")}
    assert facts["policy"]["spells"] > 3
    assert facts["policy"]["actor_s"] == pytest.approx(facts["renderer"]["actor_s"], rel=0.2)


def test_each_kind_draws_the_same_whether_or_not_others_are_on(tmp_path):
    kinds = {
        "renderer": ("frames", "image", "actor_dropout"),
        "policy": ("actor_dropout",),
        "imperfection": ("latency",),
    }
    everything = only(run(tmp_path, *SMALL, "imperfection=all", name="all")).facts
    preset = compose(["imperfection=all"]).imperfection
    for place, names in kinds.items():
        for kind in names:
            values = getattr(preset, kind).model_dump(mode="json")
            settings = [f"imperfection.{kind}.{k}={v}" for k, v in values.items()]
            alone = only(run(tmp_path, *SMALL, *settings, name=f"{place}-{kind}")).facts
            facts = alone[place] if place == "imperfection" else alone[place]["imperfection"]
            whole = everything[place] if place == "imperfection" else everything[place]["imperfection"]  # fmt: skip
            if kind == "image":  # pictures that are lost are not counted
                for camera in facts[kind].values():
                    assert camera["gain_min"] <= whole[kind][CAMERA]["gain_min"]
                    assert camera["gain_max"] >= whole[kind][CAMERA]["gain_max"]
                continue
            assert facts[kind] == whole[kind]


def test_latency_varies_by_decision_and_plans_take_effect_late(tmp_path):
    result = only(
        run(
            tmp_path, *WATCHED, "sync.decision_latency_us=20000",
            "imperfection.latency.extra_us=30000", "imperfection.latency.jitter_us=50000",
        )
    )  # fmt: skip
    decisions = read_record(log_of(tmp_path)).decisions
    extra = [d.available_us - d.time_us - 20_000 for d in decisions]
    assert all(30_000 <= e <= 80_000 for e in extra)
    assert len(set(extra)) > 5
    assert result.facts["imperfection"]["latency"] == {
        "decisions": len(extra), "min_us": min(extra), "mean_us": np.mean(extra), "max_us": max(extra),
    }  # fmt: skip


def test_a_latency_that_no_plan_covers_is_found_before_the_start(tmp_path):
    settings = ("imperfection.latency.extra_us=2000000", "imperfection.latency.jitter_us=900000")
    with pytest.raises(ConfigError, match="must reach") as caught:
        execute(compose([f"run.dir={tmp_path}", *WATCHED, *settings]))
    assert "imperfection.latency" in str(caught.value)


def test_report_and_table_show_what_was_injected(tmp_path, capsys):
    from rich.console import Console

    from omniloop.report.table import print_scores

    finished = run(tmp_path, *SMALL, "imperfection=all", "run.seeds=2")
    page = write_report(finished.run_dir).read_text()
    section = page[page.index("Injected imperfections") : page.index("Where the time went")]
    counts = [r.facts["renderer"]["imperfection"]["frames"][CAMERA] for r in finished.results]
    lost, frames = sum(c["lost"] for c in counts), sum(c["frames"] for c in counts)
    assert f"{lost} of {frames} lost" in section
    assert "loss=0.05, burst_frames=3" in section
    for label in ("ego motion", "decision latency", "pictures", "actor dropout"):
        assert label in section
    print_scores(finished.results, Console(width=200))
    assert f"injected, frames: {lost} of {frames} lost" in capsys.readouterr().out


def test_the_files_of_the_group_are_the_defaults_and_every_kind():
    assert compose([]).imperfection == ImperfectionSettings()
    assert compose(["imperfection=none"]) == compose([])
    everything = compose(["imperfection=all"])
    assert everything.imperfection.kinds_on == tuple(ImperfectionSettings.model_fields)
    assert RunConfig.model_validate(everything.model_dump(mode="json")) == everything


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("imperfection.frames.los=0.1", "Did you mean 'loss'?"),
        ("imperfection.frame.loss=0.1", "Did you mean 'frames'?"),
        ("imperfection=al", "Did you mean 'all'?"),
        ("imperfection.frames.loss=1.5", "imperfection.frames.loss=1.5 is not usable"),
        ("imperfection.frames.burst_frames=0.5", "greater than or equal to 1"),
        ("imperfection.frames.delay_us=-1", "greater than or equal to 0"),
        ("imperfection.frames={loss: 0.9, burst_frames: 2}", "at least 9"),
        ("imperfection.frames.loss=true", "give a number"),
        ("imperfection.latency.extra_us=true", "give a number"),
        ("imperfection.ego_motion.yaw_rad=nan", "finite"),
        ("imperfection.ego_motion.across_m=-0.1", "greater than or equal to 0"),
        ("imperfection.ego_motion.delay_us=0.5", "integer"),
        ("imperfection.image.gain=[2,1]", "[LEAST,MOST]"),
        ("imperfection.image.gain=[0,1]", "[LEAST,MOST]"),
        ("imperfection.image.gain=2", "imperfection.image.gain=2 is not usable"),
        ("imperfection.image.jpeg_quality=0", "greater than or equal to 1"),
        ("imperfection.actor_dropout.mean_s=0", "imperfection.actor_dropout.mean_s=0"),
        ("imperfection.latency.jitter_us=soon", "imperfection.latency.jitter_us='soon'"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(setting, message):
    with pytest.raises(ConfigError) as caught:
        compose([setting])
    assert message in str(caught.value)
    assert caught.value.remedy
