"""The tables of an export: every column with its unit and frame of reference.

Units and frames stand in the Arrow metadata of each field; `markdown` writes the tables of
``docs/export.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omniloop.export.columns import Columns, arrow_array, arrow_type

VERSION = 1
"""Columns are added, never changed, as long as it stays."""

DRIVEN_STEP_US = 100_000
DRIVEN_STEPS = 64
"""What ego drove is told every 100 ms for 6.4 s, the horizon of Alpamayo's plans."""


@dataclass(frozen=True)
class Field:
    """A column.

    Attributes:
        name: Unique in its table.
        kind: See `omniloop.export.columns.arrow_type`.
        text: What it is.
        unit: Of its numbers; empty if they have none.
        frame: The frame of reference of its numbers; empty if they have none.
    """

    name: str
    kind: str
    text: str
    unit: str = ""
    frame: str = ""


_POSE = "m; unit quaternion"
_DYNAMICS = "m/s, rad/s, m/s², rad/s²"
_MOTION = "linear velocity, angular velocity, linear and angular acceleration"

_KEY = (
    Field("scene", "string", "scene id"),
    Field("seed", "int64", "the rollout's seed"),
)
_DECISION_KEY = (
    *_KEY,
    Field("decision", "int64", "number of the decision in its rollout, from 0"),
    Field("time_us", "int64", "the decision's time t", "us"),
)

DECISIONS = (
    *_DECISION_KEY,
    Field("period_us", "int64", "from one decision to the next", "us"),
    Field("warmup", "bool", "the recording was driven, the plan was dropped"),
    Field("latency_us", "int64", "from t until the plan can take effect", "us"),
    Field("privileged", "list<string>", "what the policy may see beyond sensors"),
    Field("local_to_rig", "pose", "true ego pose at t", _POSE, "local"),
    Field("dynamics", "dynamics", f"true ego motion at t: {_MOTION}", _DYNAMICS, "rig"),
    Field("estimated_local_to_rig", "pose", "ego pose at t as the policy was told", _POSE, "local"),
    Field(
        "estimated_dynamics", "dynamics", "ego motion at t as the policy was told", _DYNAMICS, "rig"
    ),
    Field("plan_time_us", "list<int64>", "times of the plan; none if there was no plan", "us"),
    Field(
        "plan_rig_to_future_rig", "list<pose>",
        "the action: planned ego poses, relative to the estimated ego pose at t",
        _POSE, "rig at t",
    ),
    Field("plan_reasoning", "string", "the policy's words for the plan"),
    Field("plan_terminates", "bool", "the policy asked for the end of the rollout"),
    Field("route_time_us", "int64", "instant of the route's rig frame; null without a route", "us"),
    Field(
        "route_rig", "list<vec3>", "waypoints of the route that the policy was given", "m",
        "rig at route_time_us, as estimated",
    ),
    Field(
        "driven_rig_to_future_rig", "list<pose>",
        f"true ego poses every {DRIVEN_STEP_US // 1000} ms after t, up to "
        f"{DRIVEN_STEPS * DRIVEN_STEP_US / 1e6} s or the end of the rollout", _POSE, "rig at t",
    ),
    Field("in_incident", "bool", "an incident is going on at t"),
    Field("next_incident_us", "int64", "start of the first incident at or after t, or null", "us"),
    Field("next_incident_kind", "string", "its kind, or null"),
    Field(
        "incident_ahead", "bool",
        "an incident starts within the time of `--incident-within`; null if the rollout ends before",
    ),
)  # fmt: skip

FRAMES_SEEN = (
    Field("frame_cameras", "list<string>", "cameras of which a frame was delivered by t"),
    Field("frame_capture_us", "list<int64>", "when the newest frame of each was captured", "us"),
)
"""Further columns of `DECISIONS` in parquet; a sample of WebDataset holds the images."""

ACTORS = (
    *_DECISION_KEY,
    Field("actor_id", "string", "unique in the scene"),
    Field("actor_class", "string", "CAR, TRUCK, PEDESTRIAN, CYCLIST or OTHER"),
    Field("label", "string", "the dataset's own class name"),
    Field("size_m", "vec3", "length, width, height of its box", "m"),
    Field("valid", "bool", "it is there; else its poses are null"),
    Field("local_to_aabb", "pose", "pose of the box centre at t", _POSE, "local"),
    Field("rig_to_aabb", "pose", "the same, relative to the true ego pose", _POSE, "rig at t"),
)

INCIDENTS = (
    *_KEY,
    Field("kind", "string", "collision or offroad"),
    Field("label", "string", "a few words: front collision, off-road"),
    Field("start_us", "int64", "its first sample", "us"),
    Field("end_us", "int64", "its last sample", "us"),
    Field("at_fault", "bool", "as the score `incident_at_fault` counts"),
    Field("actor_id", "string", "the other actor; null if off-road"),
    Field("actor_class", "string", "its class; null if off-road"),
    Field("details", "string", "the entry in the details of the score `collision` or `offroad`, as JSON"),
    Field("found_by", "string", "`result`: the run's own scores; `defaults`: both scores by their defaults, where neither is valid there, as of a rollout that failed"),
)  # fmt: skip

ROLLOUTS = (
    *_KEY,
    Field("outcome", "string", "completed, policy_failed or infrastructure_failed"),
    Field("error", "string", "what failed, or null"),
    Field("stopped_by", "string", "why it ended early; empty if it did not"),
    Field("policy", "string", "plugin"),
    Field("traffic", "string", "plugin"),
    Field("controller", "string", "plugin"),
    Field("ground", "string", "plugin"),
    Field("renderer", "string", "plugin"),
    Field("privileged", "list<string>", "what the policy may see beyond sensors"),
    Field("tags", "list<string>", "words of the scene to group by"),
    Field("edits", "list<string>", "what was edited in the scene"),
    Field("start_us", "int64", "first committed state", "us"),
    Field("handover_us", "int64", "ego and traffic leave the recording", "us"),
    Field("end_us", "int64", "last committed state", "us"),
    Field("decision_period_us", "int64", "from one decision to the next", "us"),
    Field("decisions", "int64", "decisions of the rollout"),
    Field("exported", "int64", "of them, those in this export"),
    Field("scores", "map<string,float64>", "valid scores by name; docs/metrics has their units"),
    Field("undefined", "map<string,string>", "why other scores are undefined"),
    Field("settings_sha256", "string", "hash of the run's settings that decide what is simulated"),
    Field("scene_sha256", "string", "hash of the scene's bundle"),
)

FRAMES = (
    *_KEY,
    Field("camera", "string", "camera id"),
    Field("file", "string", "the image, beside this table"),
    Field("start_us", "int64", "start of the shutter", "us"),
    Field("capture_us", "int64", "end of the shutter: the frame's time", "us"),
    Field("available_us", "int64", "delivery to the policy", "us"),
    Field("warmup", "bool", "captured before handover"),
    Field("width_px", "int64", "of the image", "px"),
    Field("height_px", "int64", "of the image", "px"),
    Field("local_to_rig", "pose", "true ego pose at capture", _POSE, "local"),
    Field("rig_to_camera", "pose", "the camera's optical frame (x right, y down, z forward)", _POSE, "rig"),
)  # fmt: skip

TABLES = {
    "decisions": (*DECISIONS, *FRAMES_SEEN),
    "actors": ACTORS,
    "incidents": INCIDENTS,
    "rollouts": ROLLOUTS,
    "frames": FRAMES,
}


def arrow_schema(table: str) -> Any:
    """The Arrow schema of a table, with unit, frame and description in each field's metadata."""
    import pyarrow as pa

    return pa.schema(
        [pa.field(f.name, arrow_type(f.kind), metadata=_metadata(f)) for f in TABLES[table]],
        metadata={"schema": f"omniloop-export-{table}", "version": str(VERSION)},
    )


def arrow_table(table: str, columns: Columns) -> Any:
    """Rows of a table; `columns` holds all of its columns."""
    import pyarrow as pa

    arrays = [arrow_array(f.kind, columns[f.name]) for f in TABLES[table]]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def _metadata(field: Field) -> dict[str, str]:
    known = {"unit": field.unit, "frame": field.frame, "description": field.text}
    return {key: value for key, value in known.items() if value}


def markdown() -> str:
    """The tables as ``docs/export.md`` shows them."""
    parts = []
    for table, fields in TABLES.items():
        rows = "\n".join(
            f"| `{f.name}` | {f.kind} | {f.unit} | {f.frame} | {f.text} |" for f in fields
        )
        parts.append(
            f"### `{table}`\n\n| column | type | unit | frame | |\n| --- | --- | --- | --- | --- |\n{rows}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown())
