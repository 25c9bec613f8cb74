"""The JSON of a native scene bundle: schema ``omniloop-scene``, version 1.

Keys with a default may be left out of a hand-written bundle. Unknown keys are ignored.
A type other than the stated one, an infinity and a NaN are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

SCHEMA = "omniloop-scene"
VERSION = 1

Vec3 = tuple[float, float, float]
Pose7 = tuple[float, float, float, float, float, float, float]
Row4 = tuple[float, float, float, float]
Line = Annotated[int, Field(ge=0)]
"""Number of a line of ``map_points.parquet``."""


class _Doc(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class VehicleDoc(_Doc):
    """`omniloop.core.scene.Vehicle`."""

    length_m: float
    width_m: float
    height_m: float
    rear_axle_to_center_m: float
    wheelbase_m: float


class ActorDoc(_Doc):
    """`omniloop.core.scene.Actor`; its place in the list is its number in ``tracks.parquet``."""

    id: str
    actor_class: Literal["CAR", "TRUCK", "PEDESTRIAN", "CYCLIST", "OTHER"]
    label: str
    size_m: Vec3
    is_static: bool = False
    is_scripted: bool = False


class PinholeDoc(_Doc):
    """`omniloop.core.cameras.PinholeCamera`."""

    kind: Literal["pinhole"]
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    radial: tuple[float, ...] = ()
    tangential: tuple[float, ...] = ()
    max_angle_rad: float = 1.4


class FThetaDoc(_Doc):
    """`omniloop.core.cameras.FThetaCamera`."""

    kind: Literal["ftheta"]
    width: int
    height: int
    cx: float
    cy: float
    angle_to_pixeldist: tuple[float, ...]
    pixeldist_to_angle: tuple[float, ...]
    max_angle_rad: float
    linear_cde: Vec3 = (1.0, 0.0, 0.0)


class CameraDoc(_Doc):
    """`omniloop.core.cameras.Camera`."""

    id: str
    model: Annotated[PinholeDoc | FThetaDoc, Field(discriminator="kind")]
    rig_to_camera: Pose7
    first_frame_end_us: int | None = None
    frame_interval_us: int | None = None
    shutter_us: int = 0


class FirstFrameDoc(_Doc):
    """`omniloop.core.scene.FirstFrame`; `member` is the file in the bundle that holds it."""

    camera_id: str
    capture_us: int
    member: str


class GroundDoc(_Doc):
    """`omniloop.core.scene.HeightRaster`; ``ground.parquet`` holds the heights row by row."""

    rows: int = Field(ge=0)
    columns: int = Field(ge=0)
    local_xy_to_cell: tuple[Vec3, Vec3]


class SceneDoc(_Doc):
    """``scene.json``: all of a scene but its time series, its map and its pictures."""

    schema_name: Literal["omniloop-scene"] = Field(alias="schema")
    version: int
    id: str = Field(min_length=1)
    source: str
    vehicle: VehicleDoc | None = None
    actors: tuple[ActorDoc, ...] = ()
    cameras: tuple[CameraDoc, ...] = ()
    first_frames: tuple[FirstFrameDoc, ...] = ()
    prompt: str = ""
    ground: GroundDoc | None = None
    dataset_to_local: tuple[Row4, Row4, Row4, Row4] | None = None
    may_run_on: bool = False
    tags: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


class LaneDoc(_Doc):
    """`omniloop.core.scene.Lane`; its lines by number."""

    id: str
    centerline: Line
    left: Line | None = None
    right: Line | None = None
    polygon: Line | None = None
    kind: str = "vehicle"
    in_intersection: bool = False
    speed_limit_mps: float | None = None
    successors: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    left_lane: str | None = None
    right_lane: str | None = None
    left_line: str | None = None
    right_line: str | None = None


class LaneLineDoc(_Doc):
    """`omniloop.core.scene.LaneLine`."""

    id: str
    points: Line
    style: Literal[
        "SOLID_SINGLE",
        "SOLID_GROUP",
        "DASHED_SINGLE",
        "LONG_DASHED_SINGLE",
        "SHORT_DASHED_SINGLE",
        "DASHED_GROUP",
        "SOLID_DASHED",
        "DASHED_SOLID",
        "NONE",
    ] = "SOLID_SINGLE"
    color: Literal["WHITE", "YELLOW", "BLUE", "UNKNOWN"] = "WHITE"


class PolylineDoc(_Doc):
    """`omniloop.core.scene.Polyline`."""

    id: str
    points: Line
    lanes: tuple[str, ...] = ()


class AreaDoc(_Doc):
    """`omniloop.core.scene.Area`."""

    id: str
    outline: Line
    holes: tuple[Line, ...] = ()


class SignDoc(_Doc):
    """`omniloop.core.scene.TrafficSign`."""

    id: str
    local_to_sign: Pose7
    size_m: Vec3
    kind: str
    lanes: tuple[str, ...] = ()


class LightDoc(_Doc):
    """`omniloop.core.scene.TrafficLight`."""

    id: str
    local_to_light: Pose7
    size_m: Vec3
    lanes: tuple[str, ...] = ()
    times_us: tuple[int, ...] = ()
    states: tuple[str, ...] = ()


class FeatureDoc(_Doc):
    """`omniloop.core.scene.MapFeature`."""

    id: str
    kind: str
    points: Line
    category: str = ""


class MapDoc(_Doc):
    """``map.json``: the vector map; its points are the `lines` lines of ``map_points.parquet``."""

    lines: int = Field(ge=0)
    lanes: tuple[LaneDoc, ...] = ()
    lane_lines: tuple[LaneLineDoc, ...] = ()
    road_boundaries: tuple[PolylineDoc, ...] = ()
    drivable_areas: tuple[AreaDoc, ...] = ()
    crosswalks: tuple[AreaDoc, ...] = ()
    stop_lines: tuple[PolylineDoc, ...] = ()
    signs: tuple[SignDoc, ...] = ()
    lights: tuple[LightDoc, ...] = ()
    features: tuple[FeatureDoc, ...] = ()

    @model_serializer(mode="wrap")
    def _without_no_features(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Maps without features have the bytes that they had before features were known."""
        document: dict[str, Any] = dump(self)
        if not self.features:
            del document["features"]
        return document
