"""One picture of a video: header, camera, bird's-eye view, time line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omniloop.core.cameras import Camera
from omniloop.core.record import RolloutRecord
from omniloop.core.time import US_PER_S
from omniloop.report.birdseye import BirdsEye, View
from omniloop.report.incidents import Incident
from omniloop.report.moment import Moment, Playback
from omniloop.report.overlay import PlanOverlay
from omniloop.report.palette import DARK, Color, mix
from omniloop.report.text import Image, put_text, shorten, text_width_px, wrapped

HEADER_PX = 56
TIMELINE_PX = 24
_BODY_SHARE = 440 / 1280
_BODY_SHARE_ALONE = 640 / 1280
_CAMERA_SHARE = 800 / 1280
_FLASH_US = 2 * US_PER_S
_REASONING_LINES, _LINE_PX = 3, 18


def _even(value: float) -> int:
    return max(round(value / 2) * 2, 2)


@dataclass(frozen=True)
class Layout:
    """Where things are, in pixels; every size is even, as 4:2:0 video needs.

    Attributes:
        width: Of the whole picture.
        body: Height of camera and bird's-eye view.
        camera: Width of the camera's column; 0 without a camera.
    """

    width: int
    body: int
    camera: int

    @property
    def height(self) -> int:
        """Of the whole picture."""
        return HEADER_PX + self.body + TIMELINE_PX


def layout(width: int, picture_size: tuple[int, int] | None) -> Layout:
    """Divide a width between a camera of `picture_size` (width, height) and the map."""
    width = _even(width)
    if picture_size is None:
        return Layout(width, _even(width * _BODY_SHARE_ALONE), 0)
    body = _even(width * _BODY_SHARE)
    camera = _even(min(body * picture_size[0] / picture_size[1], width * _CAMERA_SHARE))
    return Layout(width, body, camera)


class Stage:
    """Draws pictures of one rollout, one instant at a time.

    Args:
        record: The rollout.
        width: Width of the pictures; about 1000 or more for the header to fit.
        picture_size: ``(width, height)`` of the camera's pictures; None without a camera.
        camera: Its model, to draw the plan into its pictures; None for no overlay.
        policy: The policy's name.
        incidents: Flags to raise.
    """

    def __init__(
        self,
        record: RolloutRecord,
        width: int,
        picture_size: tuple[int, int] | None,
        camera: Camera | None,
        policy: str,
        incidents: Sequence[Incident],
    ) -> None:
        self.playback = Playback(record)
        self.layout = layout(width, picture_size)
        self._record = record
        self._incidents = sorted(incidents, key=lambda i: i.start_us)
        plan = self.layout
        view = View(
            size=(plan.width - plan.camera, plan.body), height_m=80.0 if picture_size else 90.0
        )
        self._birdseye = BirdsEye(record.scene, view, DARK, legend=True, caption=False)
        self._window: tuple[slice, slice] | None = None
        self._fit = (0, 0)
        self._overlay: PlanOverlay | None = None
        if picture_size is not None:
            scale = min(plan.camera / picture_size[0], plan.body / picture_size[1])
            self._fit = (round(picture_size[0] * scale), round(picture_size[1] * scale))
            x, y = (plan.camera - self._fit[0]) // 2, HEADER_PX + (plan.body - self._fit[1]) // 2
            self._window = (slice(y, y + self._fit[1]), slice(x, x + self._fit[0]))
            if camera is not None:
                self._overlay = PlanOverlay(
                    camera, self._fit, DARK, record.scene.vehicle.width_m * 0.8
                )
        self._start_us = record.schedule.context_start_us
        self._end_us = max(record.schedule.end_us, record.frontier_us)
        self._base = self._draw_base(policy)

    @property
    def picture_size(self) -> tuple[int, int]:
        """``(width, height)`` at which camera pictures are shown."""
        return self._fit

    def draw(self, time_us: int, picture: Image | None) -> Image:
        """Draw the instant `time_us`, with a camera picture ``(H, W, 3)`` if there is one."""
        moment = self.playback.at(time_us)
        image = self._base.copy()
        if picture is not None and self._window is not None:
            if picture.shape[1::-1] != self._fit:
                picture = cv2.resize(picture, self._fit, interpolation=cv2.INTER_LINEAR)
            window = image[self._window]
            window[:] = picture
            if self._overlay is not None:
                shown = np.ascontiguousarray(window)
                self._overlay.draw(shown, moment)
                window[:] = shown
        body = slice(HEADER_PX, HEADER_PX + self.layout.body)
        image[body, self.layout.camera :] = self._birdseye.draw(moment)
        self._draw_reasoning(image, moment)
        self._draw_header(image, moment)
        self._draw_timeline(image, moment)
        return image

    def _draw_reasoning(self, image: Image, moment: Moment) -> None:
        """The policy's words at the foot of the camera, or of the map where there is none."""
        width = self.layout.camera or self.layout.width
        lines = wrapped(moment.reasoning, width - 32, _REASONING_LINES)
        if not lines:
            return
        foot = HEADER_PX + self.layout.body
        top = foot - _LINE_PX * len(lines) - 10
        strip = image[top:foot, :width]
        cv2.addWeighted(strip, 0.25, np.full_like(strip, DARK.panel), 0.75, 0, dst=strip)
        for k, line in enumerate(lines):
            put_text(image, line, (16, top + _LINE_PX * (k + 1)), DARK.text, 9)

    # ----------------------------------------------------------------------- header

    def _draw_base(self, policy: str) -> Image:
        """What is the same in every picture."""
        record = self._record
        image = np.empty((self.layout.height, self.layout.width, 3), dtype=np.uint8)
        image[:] = DARK.panel
        image[HEADER_PX : HEADER_PX + self.layout.body] = DARK.background
        scene, _, seed = record.session_id.rpartition("/")
        name = shorten(scene or record.scene.id, int(self.layout.width * 0.27), 11, bold=True)
        wide = put_text(image, name, (16, 25), DARK.text, 11, bold=True)
        put_text(image, f"seed {seed}", (16 + wide + 12, 25), DARK.text_dim, 9)
        x = 16
        if policy:
            x += (
                put_text(
                    image, shorten(policy, int(self.layout.width * 0.2)), (16, 45), DARK.text_dim, 9
                )
                + 10
            )
        if record.privileged:
            put_text(image, f"privileged: {', '.join(record.privileged)}", (x, 45), DARK.warmup, 9)
        self._draw_track(image)
        return image

    def _draw_header(self, image: Image, moment: Moment) -> None:
        right = self.layout.width - 16
        state, color = (
            ("WARM-UP", DARK.warmup) if moment.warmup else ("CLOSED LOOP", DARK.closed_loop)
        )
        _pill(image, state, (right - 122, 14), 122, color, filled=True)
        x = right - 150
        put_text(
            image,
            f"{moment.since_handover_us / US_PER_S:+.2f} s",
            (x, 25),
            DARK.text,
            11,
            bold=True,
            align="right",
        )
        put_text(image, "since handover", (x, 45), DARK.text_dim, 8, align="right")
        x -= 130
        put_text(
            image, f"{moment.speed_mps:.1f} m/s", (x, 25), DARK.text, 11, bold=True, align="right"
        )
        put_text(
            image, f"{moment.speed_mps * 3.6:.0f} km/h", (x, 45), DARK.text_dim, 8, align="right"
        )
        past = [i for i in self._incidents if i.start_us <= moment.time_us]
        if past:
            newest = past[-1]
            at_s = (newest.start_us - self._record.schedule.handover_us) / US_PER_S
            text = f"{newest.label.upper()}  {at_s:+.1f} s"
            if len(past) > 1:
                text += f"  ({len(past)})"
            fresh = moment.time_us <= max(newest.end_us, newest.start_us + _FLASH_US)
            width = text_width_px(text, 9, True) + 28
            _pill(image, text, (x - 110 - width, 14), width, DARK.contact, filled=fresh)

    # -------------------------------------------------------------------- time line

    def _x_at(self, time_us: int) -> int:
        share = (time_us - self._start_us) / max(self._end_us - self._start_us, 1)
        return round(16 + min(max(share, 0.0), 1.0) * (self.layout.width - 32))

    def _draw_track(self, image: Image) -> None:
        y = self.layout.height - TIMELINE_PX // 2
        handover = self._x_at(self._record.schedule.handover_us)
        cv2.rectangle(image, (16, y - 2), (handover, y + 2), mix(DARK.warmup, DARK.panel, 0.72), -1)
        rest = mix(DARK.closed_loop, DARK.panel, 0.72)
        cv2.rectangle(image, (handover, y - 2), (self.layout.width - 16, y + 2), rest, -1)

    def _draw_timeline(self, image: Image, moment: Moment) -> None:
        y = self.layout.height - TIMELINE_PX // 2
        now, handover = self._x_at(moment.time_us), self._x_at(self._record.schedule.handover_us)
        cv2.rectangle(image, (16, y - 2), (min(now, handover), y + 2), DARK.warmup, -1)
        if now > handover:
            cv2.rectangle(image, (handover, y - 2), (now, y + 2), DARK.closed_loop, -1)
        for incident in self._incidents:
            seen = incident.start_us <= moment.time_us
            color = DARK.contact if seen else mix(DARK.contact, DARK.panel, 0.5)
            x0, x1 = self._x_at(incident.start_us), self._x_at(incident.end_us)
            cv2.rectangle(image, (x0, y - 2), (max(x1, x0), y + 2), color, -1)
            cv2.rectangle(image, (x0 - 1, y - 7), (x0 + 1, y + 7), color, -1)
        cv2.rectangle(image, (now - 1, y - 8), (now + 1, y + 8), DARK.text, -1)


def _pill(
    image: Image, text: str, xy: tuple[int, int], width: int, color: Color, *, filled: bool
) -> None:
    x, y = xy
    face = color if filled else mix(color, DARK.panel, 0.75)
    cv2.rectangle(image, (x, y), (x + width, y + 27), face, -1)
    ink = DARK.outline if filled else mix(color, DARK.text, 0.3)
    put_text(image, text, (x + width // 2, y + 18), ink, 9, bold=True, align="center")
