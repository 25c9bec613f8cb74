"""`--to parquet`: decisions, actors, incidents and rollouts, by hand where it can be."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omniloop.core import geometry
from omniloop.core.contracts import MetricValue, Plan
from omniloop.core.motion import ActorMotion, EgoMotion, Trajectory
from omniloop.export import schema
from omniloop.export.export import export_run
from omniloop.export.settings import ExportSettings
from tests.export.runs import add_rollout, make_run, tree
from tests.report.builders import ACTORS, START_US

TABLES = ("decisions", "actors", "incidents", "rollouts")


def settings(**choices) -> ExportSettings:
    return ExportSettings("parquet", **choices)


def read(out: Path, table: str) -> list[dict]:
    return pq.read_table(out / table).to_pylist()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("parquet") / "run", ["a", "b"])


@pytest.fixture(scope="module")
def out(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("parquet") / "out"
    export_run(run, out, settings())
    return out


def test_a_decision_tells_pose_plan_route_and_what_ego_did(out):
    rows = [row for row in read(out, "decisions") if row["scene"] == "a"]
    assert [row["time_us"] - START_US for row in rows] == [200_000 * k for k in range(30)]
    for k, row in enumerate(rows):
        assert (row["decision"], row["period_us"], row["warmup"]) == (k, 200_000, k < 5)
        np.testing.assert_allclose(row["local_to_rig"], [2.0 * k, 0, 0, 0, 0, 0, 1], atol=1e-9)
        np.testing.assert_allclose(row["dynamics"], [10.0] + [0.0] * 11, atol=1e-6)
        assert [t - row["time_us"] for t in row["plan_time_us"]] == list(
            range(0, 3_000_001, 250_000)
        )
        planned = np.array(row["plan_rig_to_future_rig"])
        np.testing.assert_allclose(planned[:, 0], 2.5 * np.arange(13), atol=1e-9)
        np.testing.assert_allclose(np.array(row["route_rig"])[:, 0], np.linspace(0, 60, 31))
        driven = np.array(row["driven_rig_to_future_rig"])
        assert len(driven) == min(64, (6_000_000 - 200_000 * k) // 100_000)
        np.testing.assert_allclose(driven[:, 0], np.arange(1, len(driven) + 1), atol=1e-9)
        assert row["frame_capture_us"] == [row["time_us"]]


def test_the_plan_is_relative_to_the_pose_that_the_policy_was_told(tmp_path):
    run = make_run(tmp_path / "run", [])
    offset = geometry.pose(3.0, -2.0, 0.5, yaw_rad=0.7)

    def mistaken(record):
        believed = geometry.compose(offset, record.ego.local_to_rig)
        estimated = EgoMotion(record.ego.times_us, believed, record.ego.dynamics)
        decisions = [
            replace(d, plan=Plan(d.plan.local_to_rig.transform(offset))) for d in record.decisions
        ]
        return replace(record, ego_estimated=estimated, decisions=decisions)

    add_rollout(run, "a", change=mistaken)
    export_run(run, tmp_path / "out", settings())
    for k, row in enumerate(read(tmp_path / "out", "decisions")):
        planned = np.array(row["plan_rig_to_future_rig"])
        np.testing.assert_allclose(planned[:, 0], 2.5 * np.arange(13), atol=1e-9)
        np.testing.assert_allclose(planned[:, 1:6], 0, atol=1e-9)
        np.testing.assert_allclose(row["local_to_rig"][:2], [2.0 * k, 0], atol=1e-9)
        expected = geometry.transform_points(offset, [2.0 * k, 0, 0])
        np.testing.assert_allclose(row["estimated_local_to_rig"][:3], expected, atol=1e-9)
        assert row["driven_rig_to_future_rig"][0][1] == 0


def test_empty_plans_and_routes_are_empty_and_null(tmp_path):
    run = make_run(tmp_path / "run", [])

    def silent(record):
        first = replace(record.decisions[0], plan=Plan(Trajectory(*_none())), route=None)
        return replace(record, decisions=[first, *record.decisions[1:]])

    add_rollout(run, "a", change=silent)
    export_run(run, tmp_path / "out", settings())
    first, second, *_ = read(tmp_path / "out", "decisions")
    assert (first["plan_time_us"], first["plan_rig_to_future_rig"]) == ([], [])
    assert (first["route_time_us"], first["route_rig"]) == (None, None)
    assert len(second["plan_time_us"]) == 13
    assert len(second["route_rig"]) == 31


def _none():
    return np.zeros(0, dtype=np.int64), np.zeros((0, 7))


def test_actors_stand_in_the_frame_of_the_rig(out):
    rows = [row for row in read(out, "actors") if row["scene"] == "b"]
    assert len(rows) == 30 * len(ACTORS)
    for row in rows:
        (x0, y0), speed = next((at, v) for name, _, _, at, v in ACTORS if name == row["actor_id"])
        seconds = (row["time_us"] - START_US) / 1e6
        np.testing.assert_allclose(row["local_to_aabb"][:2], [x0 + speed * seconds, y0], atol=1e-9)
        gap = x0 + (speed - 10.0) * seconds
        np.testing.assert_allclose(row["rig_to_aabb"][:2], [gap, y0], atol=1e-9)
        assert row["rig_to_aabb"][2] == pytest.approx(row["size_m"][2] / 2)
        assert row["valid"]
    assert {row["actor_class"] for row in rows} == {"CAR", "TRUCK", "PEDESTRIAN", "CYCLIST"}


def test_an_actor_that_is_absent_has_no_pose(tmp_path):
    run = make_run(tmp_path / "run", [])

    def gone(record):
        valid = record.actors.valid.copy()
        valid[1, 20:40] = False
        return replace(
            record, actors=ActorMotion(record.actors.times_us, record.actors.local_to_aabb, valid)
        )

    add_rollout(run, "a", change=gone)
    export_run(run, tmp_path / "out", settings())
    for row in read(tmp_path / "out", "actors"):
        away = row["actor_id"] == ACTORS[1][0] and 10 <= row["decision"] < 20
        assert row["valid"] == (not away)
        assert (row["local_to_aabb"] is None, row["rig_to_aabb"] is None) == (away, away)


def test_incidents_are_those_of_the_result_and_decisions_know_of_them(out):
    (incident,) = [row for row in read(out, "incidents") if row["scene"] == "a"]
    assert (incident["kind"], incident["label"]) == ("collision", "front collision")
    assert (incident["actor_id"], incident["actor_class"]) == ("car", "CAR")
    assert incident["found_by"] == "result"
    assert json.loads(incident["details"])["relative_speed_mps"] == pytest.approx(5.0)
    start_us = incident["start_us"]
    assert START_US + 4_720_000 <= start_us <= START_US + 4_760_000
    for row in (row for row in read(out, "decisions") if row["scene"] == "a"):
        t = row["time_us"]
        before = t <= start_us
        assert row["next_incident_us"] == (start_us if before else None)
        assert row["next_incident_kind"] == ("collision" if before else None)
        assert row["in_incident"] == (start_us <= t <= incident["end_us"])
        # 3 s ahead: known if it comes within them, or if they were driven to their end.
        known = (before and start_us - t <= 3_000_000) or t + 3_000_000 <= START_US + 6_000_000
        expected = (before and start_us - t <= 3_000_000) if known else None
        assert row["incident_ahead"] == expected, t - START_US


def test_a_result_without_valid_scores_gets_incidents_by_their_defaults(tmp_path):
    run = make_run(tmp_path / "run", [])
    add_rollout(run, "a", metrics={"progress_m": MetricValue("progress_m", 1.0)})
    undefined = {n: MetricValue(n, None, "it failed") for n in ("collision", "offroad")}
    add_rollout(run, "b", metrics=undefined, outcome="policy_failed")
    export_run(run, tmp_path / "out", settings())
    found = read(tmp_path / "out", "incidents")
    assert [(i["scene"], i["found_by"], i["actor_id"]) for i in found] == [
        ("a", "defaults", "car"), ("b", "defaults", "car"),
    ]  # fmt: skip


def test_a_row_of_rollouts_tells_how_it_ended(out):
    row = read(out, "rollouts")[0]
    assert (row["scene"], row["outcome"], row["policy"]) == ("a", "completed", "straight_on")
    assert (row["decisions"], row["exported"], row["tags"]) == (30, 30, ["made"])
    assert dict(row["scores"])["collision"] == 1.0
    assert (row["start_us"], row["end_us"]) == (START_US, START_US + 6_000_000)
    assert row["handover_us"] == START_US + 1_000_000
    assert len(row["settings_sha256"]) == len(row["scene_sha256"]) == 64


def test_fields_carry_units_and_frames(out):
    for table in TABLES:
        found = pq.read_schema(out / table / "part-000000.parquet")
        assert found.metadata[b"schema"] == f"omniloop-export-{table}".encode()
        for field in schema.TABLES[table]:
            metadata = found.field(field.name).metadata
            assert metadata[b"description"].decode() == field.text
            assert metadata.get(b"unit", b"").decode() == field.unit
            assert metadata.get(b"frame", b"").decode() == field.frame
    poses = [f for fields in schema.TABLES.values() for f in fields if "pose" in f.kind]
    assert poses
    assert all(f.frame and f.unit for f in poses)


def test_the_documented_tables_are_the_schema():
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    assert schema.markdown() in text, "paste what `python -m omniloop.export.schema` prints"


def test_choices_thin_out_and_cut(run, tmp_path):
    def decisions(**choices):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        export_run(run, out, settings(scenes=("a",), **choices))
        assert len(read(out, "rollouts")) == 1
        return [row["decision"] for row in read(out, "decisions")]

    assert decisions(every=4) == list(range(0, 30, 4))
    assert decisions(after_handover_only=True) == list(range(5, 30))
    assert decisions(until_incident=True) == list(range(24))


def test_shards_are_bounded_and_together_hold_everything_once(run, out, tmp_path):
    export_run(run, tmp_path / "small", settings(shard_samples=7))
    parts = sorted((tmp_path / "small/decisions").iterdir())
    assert all(pq.read_metadata(part).num_rows <= 7 for part in parts)
    assert len(parts) == 10  # 7, 7, 7, 7 and 2 of each; no shard holds 2 + 7
    for table in TABLES:
        assert pq.read_table(tmp_path / "small" / table).equals(pq.read_table(out / table))


def test_files_stay_below_the_size_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    run = make_run(tmp_path / "run", [])

    def wordy(record):  # texts that do not compress
        decisions = [
            replace(d, plan=replace(d.plan, reasoning=rng.bytes(60_000).hex()))
            for d in record.decisions
        ]
        return replace(record, decisions=decisions)

    for seed in range(2):
        add_rollout(run, "a", seed, change=wordy)
    export_run(run, tmp_path / "out", settings(shard_mib=2, shard_samples=4))
    sizes = [p.stat().st_size for p in (tmp_path / "out").rglob("*.parquet")]
    assert max(sizes) <= 2 << 20
    export_run(run, tmp_path / "larger", settings(shard_mib=4, shard_samples=10))
    sizes = sorted(p.stat().st_size for p in (tmp_path / "larger/decisions").iterdir())
    assert sizes[-1] <= 4 << 20
    assert sum(r["exported"] for r in read(tmp_path / "larger", "rollouts")) == 60


def test_a_scene_without_actors_and_a_rollout_without_decisions_have_rows(tmp_path):
    run = make_run(tmp_path / "run", [])

    def alone(record):
        times = record.ego.times_us
        none = np.zeros((0, len(times)), dtype=bool)
        return replace(
            record, scene=replace(record.scene, tracks=()),
            actors=ActorMotion(times, np.zeros((*none.shape, 7)), none),
        )  # fmt: skip

    def broken(record):
        return replace(record, decisions=())

    def mute(record):
        plan = Plan(Trajectory(*_none()))
        return replace(record, decisions=[replace(d, plan=plan) for d in record.decisions])

    add_rollout(run, "a", change=broken, outcome="policy_failed", error={"what": "broke"})
    add_rollout(run, "b", change=alone)
    add_rollout(run, "c", camera=False)
    add_rollout(run, "d", change=mute)
    export_run(run, tmp_path / "out", settings())
    rows = read(tmp_path / "out", "rollouts")
    assert [row["exported"] for row in rows] == [0, 30, 30, 30]
    assert (rows[0]["outcome"], rows[0]["error"]) == ("policy_failed", "broke")
    assert {row["scene"] for row in read(tmp_path / "out", "actors")} == {"c", "d"}
    cameras = {row["scene"]: row["frame_cameras"] for row in read(tmp_path / "out", "decisions")}
    assert (cameras["c"], len(cameras["d"])) == ([], 1)


def test_exporting_twice_gives_the_same_bytes(run, out, tmp_path):
    export_run(run, tmp_path / "again", settings())
    assert tree(tmp_path / "again") == tree(out)


def test_the_same_simulation_in_another_folder_gives_the_same_tables(out, tmp_path):
    other = make_run(tmp_path / "other", ["a", "b"])
    export_run(other, tmp_path / "again", settings())
    one, two = tree(out), tree(tmp_path / "again")
    assert one.pop("manifest.json") != two.pop("manifest.json")  # it names the run
    assert one == two


def test_a_kind_is_the_arrow_type_that_the_documentation_says(out):
    decisions = pq.read_schema(out / "decisions" / "part-000000.parquet")
    assert decisions.field("local_to_rig").type == pa.list_(pa.float64(), 7)
    assert decisions.field("route_rig").type == pa.list_(pa.list_(pa.float64(), 3))


def test_a_fresh_process_exports(run, tmp_path: Path) -> None:
    """Parts of pyarrow that other code of a test run has imported must not be taken for granted."""
    words = ["export", str(run), "--to", "parquet", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "omniloop.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
