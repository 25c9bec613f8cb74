"""Edits of what a scene says: prompt, weather, time of day."""

from __future__ import annotations

from dataclasses import replace

from omniloop.core.scene import Scene
from omniloop.scenes.edits.schema import Prompt, TimeOfDay, Weather

_WEATHER = {
    "clear": "Clear weather.", "overcast": "Overcast sky, flat light.",
    "rain": "Heavy rain, wet reflecting road.", "snow": "Falling snow, snow on the road.",
    "fog": "Thick fog, short visibility.",
}  # fmt: skip
_TIME = {
    "day": "Daylight.", "dawn": "Dawn, low warm light.", "dusk": "Dusk, fading light.",
    "night": "Night, dark sky, headlights and street lamps.",
}  # fmt: skip


def prompt(scene: Scene, edit: Prompt) -> tuple[Scene, str]:
    """Replace the prompt, or add a sentence."""
    if edit.text is not None:
        return replace(scene, prompt=edit.text), f'"{edit.text}"'
    return replace(scene, prompt=_joined(scene.prompt, edit.add or "")), f'added "{edit.add}"'


def weather(scene: Scene, edit: Weather) -> tuple[Scene, str]:
    """Set the tag ``weather:...`` and add a sentence to the prompt."""
    return _tagged(scene, "weather", edit.weather, _WEATHER[edit.weather]), edit.weather


def time_of_day(scene: Scene, edit: TimeOfDay) -> tuple[Scene, str]:
    """Set the tag ``time:...`` and add a sentence to the prompt."""
    return _tagged(scene, "time", edit.time, _TIME[edit.time]), edit.time


def _tagged(scene: Scene, key: str, value: str, sentence: str) -> Scene:
    others = tuple(tag for tag in scene.tags if not tag.startswith(f"{key}:"))
    return replace(
        scene, tags=(*others, f"{key}:{value}"), prompt=_joined(scene.prompt, sentence)
    )  # fmt: skip


def _joined(text: str, sentence: str) -> str:
    return f"{text.rstrip()} {sentence}".strip()
