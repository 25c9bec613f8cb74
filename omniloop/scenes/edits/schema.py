"""The schema of an edit file: strict, so that a typing error is found and named."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ClassName = Literal["car", "van", "truck", "bus", "pedestrian", "cyclist", "cone", "debris"]
Side = Literal["left", "right"]
ActorId = Annotated[str, Field(min_length=1)]
Size = tuple[
    Annotated[float, Field(gt=0, le=30)],
    Annotated[float, Field(gt=0, le=30)],
    Annotated[float, Field(gt=0, le=30)],
]
Seconds = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Speed = Annotated[float, Field(ge=0, le=60)]


class Strict(BaseModel):
    """Base of all parts: unknown keys are errors, values are frozen and finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Place(Strict):
    """Where an actor stands: absolute in `local`, or relative to the recorded ego path.

    Relative places count along the path from ego's front bumper at `at_s` to the rear of
    the actor's box: by `ahead_m` metres, or by what ego's front drives in `ahead_s`.
    """

    x_m: float | None = None
    y_m: float | None = None
    yaw_deg: float | None = None
    at_s: Seconds = 0.0
    ahead_m: float | None = None
    ahead_s: float | None = None
    lane: Literal["same", "left", "right", "opposite", "kerb_left", "kerb_right"] | None = None
    lateral_m: float = 0.0

    @model_validator(mode="after")
    def _one_way(self) -> Place:
        absolute = [v is not None for v in (self.x_m, self.y_m, self.yaw_deg)]
        relative = [v is not None for v in (self.ahead_m, self.ahead_s)]
        if any(absolute) and not all(absolute):
            raise ValueError("an absolute place needs x_m, y_m and yaw_deg")
        if any(absolute) == any(relative) or all(relative):
            raise ValueError("give x_m, y_m and yaw_deg, or one of ahead_m and ahead_s")
        if any(absolute) and (self.lane is not None or self.lateral_m or self.at_s):
            raise ValueError("at_s, lane and lateral_m belong to places relative to ego")
        return self


class Prompt(Strict):
    """Change the text for video models: replace it, or add to it."""

    kind: Literal["prompt"]
    text: str | None = None
    add: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Prompt:
        if (self.text is None) == (self.add is None):
            raise ValueError("give text, to replace the prompt, or add")
        return self


class Weather(Strict):
    """Set the weather: the tag ``weather:...`` and a sentence of the prompt."""

    kind: Literal["weather"]
    weather: Literal["clear", "overcast", "rain", "snow", "fog"]


class TimeOfDay(Strict):
    """Set the time of day: the tag ``time:...`` and a sentence of the prompt."""

    kind: Literal["time_of_day"]
    time: Literal["day", "dawn", "dusk", "night"]


class _Placed(Strict):
    allow_off_map: bool = False
    make_room: bool = False


class Insert(_Placed):
    """Add an actor that stands, drives at a speed, or paces the recorded ego."""

    kind: Literal["insert"]
    id: ActorId | None = None
    actor_class: ClassName = Field("car", alias="class")
    label: str | None = None
    size_m: Size | None = None
    place: Place
    motion: Literal["stand", "drive", "pace"] = "stand"
    speed_mps: Speed | None = None

    @model_validator(mode="after")
    def _speed(self) -> Insert:
        if (self.motion == "drive") != (self.speed_mps is not None):
            raise ValueError("speed_mps belongs to motion: drive, which needs it")
        if self.motion == "pace" and self.place.x_m is not None:
            raise ValueError("motion: pace needs a place relative to ego")
        return self


class Remove(Strict):
    """Take actors out: those that fit everything that is given."""

    kind: Literal["remove"]
    actors: tuple[str, ...] | None = None
    actor_class: tuple[ClassName, ...] | None = Field(None, alias="class")
    within_m: Positive | None = None
    moving: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> Remove:
        if all(v is None for v in (self.actors, self.actor_class, self.within_m, self.moving)):
            raise ValueError("give actors, class, within_m or moving")
        return self


class Replace(Strict):
    """Give an actor another class or size; it keeps its path and stands on the ground."""

    kind: Literal["replace"]
    actor: str
    actor_class: ClassName = Field(alias="class")
    label: str | None = None
    size_m: Size | None = None


class Retime(Strict):
    """Play an actor's motion later (or earlier), or slower (or faster)."""

    kind: Literal["retime"]
    actor: str
    shift_s: float = 0.0
    speed_factor: Annotated[float, Field(ge=0.1, le=3.0)] = 1.0
    make_room: bool = False

    @model_validator(mode="after")
    def _something(self) -> Retime:
        if self.shift_s == 0 and self.speed_factor == 1:
            raise ValueError("give shift_s or speed_factor")
        return self


class Offset(_Placed):
    """Move an actor ahead or to its left, in its own frame, all the time."""

    kind: Literal["offset"]
    actor: str
    ahead_m: float = 0.0
    left_m: float = 0.0

    @model_validator(mode="after")
    def _something(self) -> Offset:
        if self.ahead_m == 0 and self.left_m == 0:
            raise ValueError("give ahead_m or left_m")
        return self


class CutIn(_Placed):
    """A car from a neighbouring lane moves in front of ego.

    At `at_s` it begins to move over, for `duration_s`; then its rear is `gap_s` (of ego's
    recorded speed) ahead of ego's front.
    """

    kind: Literal["cut_in"]
    id: ActorId | None = None
    actor_class: ClassName = Field("car", alias="class")
    from_lane: Literal["left", "right", "opposite", "auto"] = Field("auto", alias="from")
    at_s: Seconds
    gap_s: Annotated[float, Field(ge=0.1, le=5.0)]
    duration_s: Annotated[float, Field(ge=1.0, le=10.0)] = 2.5
    approach: Annotated[float, Field(ge=0.5, le=1.5)] = 1.15
    speed_mps: Speed | None = None


class _When(Strict):
    at_s: Seconds | None = None
    when_ego_within_m: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> _When:
        if (self.at_s is None) == (self.when_ego_within_m is None):
            raise ValueError("give at_s or when_ego_within_m")
        return self


class HardBrake(_When):
    """An actor brakes to a lower speed and keeps it."""

    kind: Literal["hard_brake"]
    actor: str = "lead"
    insert_gap_s: Annotated[float, Field(ge=0.1, le=5.0)] | None = None
    decel_mps2: Annotated[float, Field(gt=0, le=9.0)] = 6.0
    to_mps: Speed = 0.0
    make_room: bool = False


class Swerve(_When):
    """An actor moves aside, holds, and comes back."""

    kind: Literal["swerve"]
    actor: str = "lead"
    insert_gap_s: Annotated[float, Field(ge=0.1, le=5.0)] | None = None
    side: Literal["left", "right", "auto"] = "auto"
    lateral_m: Annotated[float, Field(gt=0, le=6.0)] = 2.5
    duration_s: Annotated[float, Field(ge=0.5, le=10.0)] = 1.5
    hold_s: Seconds = 1.0
    comes_back: bool = True
    allow_off_map: bool = False
    make_room: bool = False


class Jaywalk(_Placed):
    """A pedestrian crosses ego's path where recorded ego's front is at `at_s`.

    It is on ego's path `gap_s` before recorded ego's front.
    """

    kind: Literal["jaywalk"]
    id: ActorId | None = None
    actor_class: Literal["pedestrian", "cyclist"] = Field("pedestrian", alias="class")
    from_side: Literal["left", "right", "auto"] = Field("right", alias="from")
    at_s: Seconds
    gap_s: Annotated[float, Field(ge=-2.0, le=10.0)]
    speed_mps: Annotated[float, Field(gt=0.2, le=8.0)] = 1.5
    start_m: Positive | None = None


class WrongWay(_Placed):
    """A car comes towards ego in ego's lane and meets recorded ego at `at_s`.

    From the opposite lane it moves over in `duration_s`, until `early_s` before they meet;
    it begins to move back `return_s` before, or never if that is null.
    """

    kind: Literal["wrong_way"]
    id: ActorId | None = None
    actor_class: ClassName = Field("car", alias="class")
    from_lane: Literal["opposite", "same", "auto"] = Field("auto", alias="from")
    at_s: Seconds
    speed_mps: Annotated[float, Field(ge=1.0, le=40.0)]
    duration_s: Annotated[float, Field(ge=1.0, le=10.0)] = 2.5
    early_s: Seconds = 2.0
    return_s: Seconds | None = 1.0


class EgoStart(Strict):
    """Let recorded ego start at another speed or place of its path."""

    kind: Literal["ego_start"]
    speed_mps: Speed | None = None
    speed_change_mps: float | None = None
    over_s: Annotated[float, Field(ge=0.5, le=30)] = 5.0
    ahead_m: Annotated[float, Field(ge=-50, le=50)] = 0.0
    left_m: Annotated[float, Field(ge=-4, le=4)] = 0.0
    over_m: Annotated[float, Field(ge=5, le=200)] = 30.0
    allow_off_map: bool = False

    @model_validator(mode="after")
    def _something(self) -> EgoStart:
        if self.speed_mps is not None and self.speed_change_mps is not None:
            raise ValueError("give speed_mps or speed_change_mps, not both")
        if self.speed_mps is None and not (self.speed_change_mps or self.ahead_m or self.left_m):
            raise ValueError("give speed_mps, speed_change_mps, ahead_m or left_m")
        return self


class CloseLane(_Placed):
    """Cones close a lane: a taper across it, then along its open side.

    Distances count from ego's front at `at_s`; a works truck may stand inside.
    """

    kind: Literal["close_lane"]
    id: ActorId = "cone"
    lane: Literal["same", "left", "right"] = "same"
    at_s: Seconds = 0.0
    from_m: float
    to_m: float
    taper_m: Positive = 20.0
    spacing_m: Annotated[float, Field(ge=1.0, le=30)] = 4.0
    open_side: Literal["left", "right", "auto"] = "auto"
    truck_m: float | None = None

    @model_validator(mode="after")
    def _order(self) -> CloseLane:
        if not self.from_m + self.taper_m <= self.to_m:
            raise ValueError("to_m must be at least from_m + taper_m")
        if self.truck_m is not None and not self.from_m + self.taper_m < self.truck_m < self.to_m:
            raise ValueError("truck_m must be behind the taper, between from_m + taper_m and to_m")
        return self


class StandardRig(Strict):
    """Take the standard front cameras, of 120 and 30 degrees, instead of the scene's own."""

    kind: Literal["standard_rig"]


Edit = Annotated[
    Prompt | Weather | TimeOfDay | Insert | Remove | Replace | Retime | Offset | CutIn
    | HardBrake | Swerve | Jaywalk | WrongWay | EgoStart | CloseLane | StandardRig,
    Field(discriminator="kind"),
]  # fmt: skip

EDITS: dict[str, type[Strict]] = {
    "prompt": Prompt, "weather": Weather, "time_of_day": TimeOfDay, "insert": Insert,
    "remove": Remove, "replace": Replace, "retime": Retime, "offset": Offset, "cut_in": CutIn,
    "hard_brake": HardBrake, "swerve": Swerve, "jaywalk": Jaywalk, "wrong_way": WrongWay,
    "ego_start": EgoStart, "close_lane": CloseLane, "standard_rig": StandardRig,
}  # fmt: skip


class Parameter(Strict):
    """A value that `scenes.set` and `scenes vary` may change.

    Attributes:
        default: Used where nobody says otherwise.
        range: From where to where `scenes vary` varies it; no limit for `scenes.set`.
        choices: The values that it may have, instead of a range.
        help: One line.
    """

    default: float | int | str | bool | None
    range: tuple[float, float] | None = None
    choices: tuple[Any, ...] | None = None
    help: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Parameter:
        if self.range is not None and self.choices is not None:
            raise ValueError("give a range or choices, not both")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("a range goes from a lower to a higher value")
        if self.choices is not None and self.default not in self.choices:
            raise ValueError(f"the default {self.default!r} is none of the choices")
        if isinstance(self.default, str) and "${" in self.default:
            raise ValueError("a default cannot refer to a parameter")
        return self


class Head(Strict):
    """What an edit file says beside its edits."""

    description: str = ""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
