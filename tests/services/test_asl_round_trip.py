"""From our log to an ASL log and back: states, plans and frames stay, within float32."""

from __future__ import annotations

import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.configs.compose import compose
from omniloop.core.errors import RunFolderError, SceneError
from omniloop.core.geometry import Array
from omniloop.core.record import RolloutRecord
from omniloop.metrics.scoring import score
from omniloop.runlog.reader import LogReader, iter_frames
from omniloop.runlog.record import read_record
from omniloop.runner.assemble import create_metrics
from omniloop.runner.run import execute
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.asl_file import AslReader, AslWriter
from omniloop.services.asl_read import mcap_from_asl
from omniloop.services.asl_reasoning import reasoning_from_debug, reasoning_to_debug
from omniloop.services.asl_write import write_asl
from omniloop.services.protos.logging_pb2 import LogEntry
from tests.services.asl_stage import run

NEAR_M = 1e-4
"""Positions of a few hundred metres as float32, twice."""

NO_MAP = (
    "renderer.chunk=0",
    "renderer.fps=10",
    "sync.duration_s=1.5",
    "policy=tests.services.asl_stage:Telling",
)


@dataclass
class Converted:
    log: Path
    asl: Path
    back: Path
    notes: tuple[str, ...]

    @property
    def records(self) -> tuple[RolloutRecord, RolloutRecord]:
        return read_record(self.log), read_record(self.back)


def convert(log: Path, **given: object) -> Converted:
    asl, back = log.with_name("rollout.asl"), log.with_name("back.mcap")
    write_asl(log, asl)
    read = mcap_from_asl(asl, back, **given)  # type: ignore[arg-type]
    return Converted(log, asl, back, read.notes)


@pytest.fixture(scope="module")
def all_six(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("six")
    config = [
        "renderer.width=64", "renderer.height=32", "sync.duration_s=1", "run.concurrency=1",
        f"run.dir={folder}", "run.name=run",
    ]  # fmt: skip
    finished = execute(compose(config))
    assert len(finished.results) == 6
    return {p.parent.parent.name: p for p in folder.glob("run/rollouts/*/*/log.mcap")}


@pytest.fixture(scope="module")
def frames_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("frames"), "run", "scenes.ids=crossing_pedestrian", *NO_MAP)


def assert_near(a: Array, b: Array, metres: float = NEAR_M) -> None:
    np.testing.assert_allclose(a[..., :3], b[..., :3], atol=metres)
    dots = np.abs(np.sum(a[..., 3:] * b[..., 3:], axis=-1))
    np.testing.assert_allclose(dots, 1.0, atol=1e-6)


def assert_same_rollout(log: Path, back: Path, context_m: float = NEAR_M) -> None:
    ours, theirs = read_record(log), read_record(back)
    assert theirs.schedule == ours.schedule
    assert theirs.session_id == ours.session_id
    assert theirs.privileged == ours.privileged
    assert theirs.stopped_by == ours.stopped_by
    for name in ("ego", "ego_estimated"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.times_us.tolist() == b.times_us.tolist()
        assert_near(a.local_to_rig, b.local_to_rig)
        np.testing.assert_allclose(a.dynamics, b.dynamics, atol=2e-3)
    assert [a.id for a in theirs.scene.actors] == [a.id for a in ours.scene.actors]
    assert [a.actor_class for a in theirs.scene.actors] == [
        a.actor_class for a in ours.scene.actors
    ]
    times = ours.ego.times_us
    here, there = ours.actors.sample(times), theirs.actors.sample(times)
    assert np.array_equal(here.valid, there.valid)
    assert_near(here.local_to_aabb, there.local_to_aabb, context_m)
    assert len(theirs.decisions) == len(ours.decisions)
    for mine, other in zip(ours.decisions, theirs.decisions, strict=True):
        assert (mine.time_us, mine.dropped) == (other.time_us, other.dropped)
        assert mine.plan.local_to_rig.times_us.tolist() == other.plan.local_to_rig.times_us.tolist()
        assert_near(mine.plan.local_to_rig.poses, other.plan.local_to_rig.poses)
        assert len(mine.plan.samples) == len(other.plan.samples)
        assert mine.plan.reasoning == other.plan.reasoning
        assert (mine.route is None) == (other.route is None)
        if mine.route is not None and other.route is not None:
            np.testing.assert_allclose(
                mine.route.waypoints_rig, other.route.waypoints_rig, atol=NEAR_M
            )
    frames = [
        [(f.camera_id, f.start_us, f.capture_us, f.available_us, f.image) for f in iter_frames(p)]
        for p in (log, back)
    ]
    assert frames[0] == frames[1]
    events = [[(e.topic, e.time_us) for e in LogReader(p).events()] for p in (log, back)]
    told = [[e for e in listed if "notice" not in e[0]] for listed in events]
    assert [t for t, _ in told[0]] == [t for t, _ in told[1]]


@pytest.mark.parametrize(
    "scene", ["crossing_pedestrian", "curve", "cut_in", "junction", "stopped_lead", "straight_road"]
)
def test_a_rollout_comes_back_from_asl(all_six: dict[str, Path], scene: str) -> None:
    done = convert(all_six[scene])
    assert done.notes == ()  # the video model's HD map is the scene's
    assert_same_rollout(done.log, done.back, context_m=1e-3)
    own, read = (record.scene.map for record in done.records)
    assert [lane.id for lane in read.lanes] == [lane.id for lane in own.lanes]


@pytest.mark.parametrize(
    "given",
    [
        ("scenes.ids=cut_in", "sync=postfetch", "sync.decisions_per_chunk=2"),
        ("scenes.ids=junction", "sync.warmup_s=0.7", "sync.skip_services_in_warmup=true"),
        ("scenes.ids=curve", *NO_MAP, "sync.warmup_s=0.5", "sync.skip_services_in_warmup=true"),
        ("scenes.ids=curve", "imperfection.ego_motion.white_along_m=0.3"),
        ("scenes.ids=curve", "renderer=none", "sync.duration_s=1"),
    ],
)  # fmt: skip
def test_other_timings_come_back_too(tmp_path: Path, given: tuple[str, ...]) -> None:
    log = run(tmp_path, "run", "sync.duration_s=1.5", *given)
    done = convert(log)
    ours, theirs = done.records
    if ours.ego_estimated.local_to_rig is not ours.ego.local_to_rig:
        # What the driver was told ends with its last decision.
        until = ours.ego.times_us <= ours.decisions[-1].time_us
        assert_near(
            ours.ego_estimated.local_to_rig[until], theirs.ego_estimated.local_to_rig[until]
        )
        assert_near(ours.ego.local_to_rig[-10:], theirs.ego.local_to_rig[-10:])
    else:
        assert_same_rollout(done.log, done.back)


def test_an_asl_log_that_was_read_is_written_with_its_own_name(
    all_six: dict[str, Path], tmp_path: Path
) -> None:
    done = convert(all_six["curve"])
    write_asl(done.back, tmp_path / "again.asl")
    first, again = list(AslReader(done.asl)), list(AslReader(tmp_path / "again.asl"))
    assert [e.WhichOneof("log_entry") for e in first] == [e.WhichOneof("log_entry") for e in again]
    uuids = [e.rollout_metadata.session_metadata.session_uuid for e in (first[0], again[0])]
    assert uuids[0] == uuids[1] != ""


def test_without_a_map_scores_that_need_one_are_undefined_and_say_why(frames_log: Path) -> None:
    done = convert(frames_log)
    assert_same_rollout(done.log, done.back)
    assert any("has no map" in note for note in done.notes)
    metrics = create_metrics(compose([]).metrics)
    values = {v.name: v for v in score(done.records[1], metrics)}
    assert not values["offroad"].valid
    assert values["offroad"].reason
    assert values["collision"].valid


def test_with_its_scene_the_scores_are_those_of_our_log(frames_log: Path) -> None:
    done = convert(frames_log, scenes=EmbeddedScenes())
    metrics = create_metrics(compose([]).metrics)
    ours, theirs = ({v.name: v for v in score(r, metrics)} for r in done.records)
    assert done.notes == ()
    for name, value in ours.items():
        assert theirs[name].valid == value.valid, name
        if value.valid:
            assert theirs[name].value == pytest.approx(value.value, rel=1e-3, abs=1e-3), name


# ------------------------------------------------------------------------- foreign and damaged


def changed(asl: Path, target: Path, change: Callable[[LogEntry], Iterator[LogEntry]]) -> Path:
    """A log with each entry replaced by what `change` makes of it."""
    with AslWriter(target) as log:
        for entry in AslReader(asl):
            for new in change(entry):
                kind = new.WhichOneof("log_entry") or ""
                log.write(kind, getattr(new, kind))
    return target


@pytest.fixture(scope="module")
def asl(frames_log: Path) -> Path:
    target = frames_log.with_name("source.asl")
    write_asl(frames_log, target)
    return target


def test_a_log_as_alpasim_writes_it_is_read(asl: Path, tmp_path: Path) -> None:
    """Zero dynamics, a padded route, context start twice, forecasts, a ground truth, no sizes."""

    def alpasims(entry: LogEntry) -> Iterator[LogEntry]:
        kind = entry.WhichOneof("log_entry")
        if kind == "driver_ego_trajectory":
            for state in entry.driver_ego_trajectory.dynamic_states:
                state.Clear()
        if kind == "route_request":
            for _ in range(3):
                entry.route_request.route.waypoints.add(x=np.nan, y=np.nan, z=np.nan)
        if kind == "traffic_return":
            for update in entry.traffic_return.object_trajectory_updates:
                last = update.trajectory.poses[-1]
                later = update.trajectory.poses.add()
                later.CopyFrom(last)
                later.timestamp_us += 500_000
        yield entry
        if kind == "actor_poses" and entry.actor_poses.timestamp_us == 0:
            yield entry
        if kind == "route_request":
            yield LogEntry(ground_truth_request={})  # type: ignore[arg-type]

    mcap_from_asl(changed(asl, tmp_path / "a.asl", alpasims), tmp_path / "a.mcap", EmbeddedScenes())
    mcap_from_asl(asl, tmp_path / "b.mcap", EmbeddedScenes())
    assert_same_rollout(tmp_path / "b.mcap", tmp_path / "a.mcap")


def test_a_log_without_a_traffic_session_has_what_was_driven_for_a_recording(
    asl: Path, tmp_path: Path
) -> None:
    def without(entry: LogEntry) -> Iterator[LogEntry]:
        if entry.WhichOneof("log_entry") not in (
            "traffic_session_request",
            "driver_session_request",
        ):
            yield entry

    path = changed(asl, tmp_path / "a.asl", without)
    read = mcap_from_asl(path, tmp_path / "a.mcap")
    assert any("what was driven stands in" in note for note in read.notes)
    record = read_record(tmp_path / "a.mcap")
    driven = read_record(asl.with_name("log.mcap"))
    assert record.actors.valid.sum() >= driven.actors.valid[:, -1].sum()
    now = record.ego.times_us[-1:]
    assert_near(record.actors.sample(now).local_to_aabb, driven.actors.sample(now).local_to_aabb)


def test_a_plan_that_cannot_be_used_is_left_out_and_counted(asl: Path, tmp_path: Path) -> None:
    def broken(entry: LogEntry) -> Iterator[LogEntry]:
        if entry.WhichOneof("log_entry") == "driver_return":
            entry.driver_return.trajectory.poses[3].pose.vec.x = np.nan
        yield entry

    read = mcap_from_asl(changed(asl, tmp_path / "a.asl", broken), tmp_path / "a.mcap")
    record = read_record(tmp_path / "a.mcap")
    assert [len(d.plan.local_to_rig) for d in record.decisions] == [0] * len(record.decisions)
    assert any(f"{len(record.decisions)} x plans" in note for note in read.notes), read.notes


@pytest.mark.parametrize(
    ("kind", "spoil", "said"),
    [
        ("actor_poses", lambda m: m.actor_poses[-1].actor_pose.vec.__setattr__("x", np.nan), "not finite"),
        ("actor_poses", lambda m: m.actor_poses[-1].actor_pose.quat.Clear(), "not a unit"),
        ("actor_poses", lambda m: m.__setattr__("timestamp_us", 5), "before"),
        ("actor_poses", lambda m: m.__setattr__("timestamp_us", 2**64 - 1), "beyond"),
        ("driver_camera_image", lambda m: m.camera_image.__setattr__("frame_end_us", 2**63 - 1), "beyond"),
        ("rollout_metadata", lambda m: m.ego_rig_recorded_ground_truth_trajectory.poses[-1].__setattr__("timestamp_us", 2**62), "more than a day"),
        ("actor_poses", lambda m: m.actor_poses.__delitem__(-1), "no pose of 'EGO'"),
        ("rollout_metadata", lambda m: m.session_metadata.ClearField("control_timestep_us"), "control_timestep_us 0"),
        ("rollout_metadata", lambda m: m.actor_definitions.Clear(), "no 'EGO'"),
        ("rollout_metadata", lambda m: m.session_metadata.ClearField("scene_id"), "names no scene"),
        ("traffic_session_request", lambda m: m.logged_object_trajectories[1].aabb.Clear(), "has the size"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(
    asl: Path, tmp_path: Path, kind: str, spoil: Callable[[object], None], said: str
) -> None:
    seen = 0

    def spoiled(entry: LogEntry) -> Iterator[LogEntry]:
        nonlocal seen
        if entry.WhichOneof("log_entry") == kind:
            seen += 1
            if seen == 3 or kind != "actor_poses":
                spoil(getattr(entry, kind))
        yield entry

    path = changed(asl, tmp_path / "a.asl", spoiled)
    with pytest.raises((RunFolderError, SceneError)) as caught:
        mcap_from_asl(path, tmp_path / "a.mcap")
    assert said in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.asl"]


def test_a_scene_that_was_not_driven_is_refused(asl: Path, tmp_path: Path) -> None:
    def renamed(entry: LogEntry) -> Iterator[LogEntry]:
        if entry.WhichOneof("log_entry") == "rollout_metadata":
            entry.rollout_metadata.session_metadata.scene_id = "curve"
        yield entry

    path = changed(asl, tmp_path / "a.asl", renamed)
    with pytest.raises(SceneError, match="m from the log's"):
        mcap_from_asl(path, tmp_path / "a.mcap", EmbeddedScenes())


def driven_at(asl: Path) -> list[int]:
    """Times of the states in a log that may be cut."""
    try:
        entries = list(AslReader(asl))
    except RunFolderError:
        return []
    return [
        e.actor_poses.timestamp_us for e in entries if e.WhichOneof("log_entry") == "actor_poses"
    ]


@settings(max_examples=15)
@given(share=st.floats(0, 1))
def test_a_log_that_is_cut_anywhere_gives_the_states_before_the_cut(
    asl: Path, share: float
) -> None:
    data = asl.read_bytes()
    path, back = asl.with_name("cut.asl"), asl.with_name("cut.mcap")
    path.write_bytes(data[: int(len(data) * share)])
    if len(driven_at(path)) < 2:  # nothing was driven yet
        with pytest.raises(RunFolderError):
            mcap_from_asl(path, back)
        return
    read = mcap_from_asl(path, back)
    whole, part = read_record(asl.with_name("log.mcap")), read_record(back)
    count = len(part.ego)
    assert part.ego.times_us.tolist() == whole.ego.times_us[:count].tolist()
    assert_near(part.ego.local_to_rig, whole.ego.local_to_rig[:count])
    assert part.stopped_by == ("" if count == len(whole.ego) else "the ASL log ends")
    if share < 0.99:
        assert any("cut off at byte" in note for note in read.notes) or count < len(whole.ego)


def test_damaged_bytes_are_told_and_nothing_else_is_raised(asl: Path) -> None:
    data = asl.read_bytes()
    path, back = asl.with_name("damaged.asl"), asl.with_name("damaged.mcap")
    random_ = random.Random(7)
    for _ in range(25):
        spoiled = bytearray(data)
        for _ in range(3):
            spoiled[random_.randrange(len(data))] = random_.randrange(256)
        path.write_bytes(spoiled)
        try:
            mcap_from_asl(path, back)
        except (RunFolderError, SceneError):
            continue
        read_record(back)


# ----------------------------------------------------------------------------- reasoning


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("pwned",))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_reasoning_is_found_in_what_alpasims_drivers_pickle(protocol: int) -> None:
    debug = pickle.dumps({"command": 1, "reasoning_text": "yield \u2192 stop", "x": [1]}, protocol)
    assert reasoning_from_debug(debug) == "yield \u2192 stop"


@given(st.text())
def test_reasoning_comes_back(text: str) -> None:
    told = text.encode("utf-8", "backslashreplace").decode()
    assert reasoning_from_debug(reasoning_to_debug(text)) == told


def test_nothing_in_debug_bytes_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    debug = pickle.dumps({"evil": _Runs(), "reasoning_text": "go"})
    assert reasoning_from_debug(debug) == "go"
    assert not (tmp_path / "pwned").exists()
    pickle.loads(debug)  # which would have
    assert (tmp_path / "pwned").exists()


@given(st.binary(max_size=60))
def test_any_debug_bytes_are_looked_at_without_an_error(debug: bytes) -> None:
    assert isinstance(reasoning_from_debug(b"\x80\x04" + debug), str)
    assert isinstance(reasoning_from_debug(debug), str)


def test_a_framing_of_4_gigabytes_is_a_cut(asl: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.asl"
    path.write_bytes(asl.read_bytes() + struct.pack(">I", 2**32 - 1) + b"abc")
    read = mcap_from_asl(path, tmp_path / "a.mcap")
    assert any("cut off at byte" in note for note in read.notes)
