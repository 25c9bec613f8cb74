"""`policy=alpamayo`: the adapter between Omniloop's contract and the models' own calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from omniloop.core import geometry
from omniloop.core.cameras import Camera
from omniloop.core.contracts import (
    ImageHistory,
    Observation,
    Plan,
    PolicySpec,
    SessionInfo,
)
from omniloop.core.errors import PluginError, PolicyError
from omniloop.core.geometry import Array
from omniloop.core.motion import Trajectory
from omniloop.core.requirement import Requirement
from omniloop.core.seeds import derive_seed
from omniloop.policies.alpamayo.inputs import (
    FRAMES,
    HISTORY_S,
    STEP_US,
    ModelInput,
    model_input,
)
from omniloop.policies.alpamayo.loading import (
    RELEASES,
    Loaded,
    load,
    requirements,
)

CAMERA_INDEX = {
    "camera_cross_left_120fov": 0,
    "camera_front_wide_120fov": 1,
    "camera_cross_right_120fov": 2,
    "camera_rear_left_70fov": 3,
    "camera_rear_tele_30fov": 4,
    "camera_rear_right_70fov": 5,
    "camera_front_tele_30fov": 6,
}
"""The models' cameras by their index in training (Physical AI AV dataset)."""

SETS = {1: (1,), 2: (1, 6), 4: (0, 1, 2, 6)}
"""Number of cameras to their indices, as compared in OmniDreams, section 9.4."""

WAYPOINTS = 64


class AlpamayoPolicy:
    """Alpamayo 1 or 1.5: reasons about what its cameras see, then samples trajectories.

    Each camera's last four frames at 10 Hz and 16 ego poses at 10 Hz go in; 64 waypoints at 10 Hz
    come out. The first sampled trajectory is the plan, all are in its samples, and the chain of causation is its reasoning.

    Args:
        version: "1" or "1.5".
        cameras: 1 (front wide), 2 (and front tele), or 4 (and both cross ones). Version 1 was
            trained with four.
        camera_ids: The scene's own names of those cameras, comma-separated in the order of their
            indices, if they are not those of the Physical AI dataset.
        weights: A folder or a name on Hugging Face; None for the release's own.
        download: Whether weights may be downloaded.
        device: "cuda", "cuda:1" or "cpu".
        attention: The transformer's attention; empty for the model's default.
        samples: Trajectories that are sampled at each decision.
        top_p: Of the words.
        temperature: Of the words.
        max_generation_length: At most so many tokens of reasoning; the model's own default of 64
            cuts it off.
        navigation: "none", "route", or words such as "Turn left in 30m" (version 1.5).
        nav_guidance: Weight of classifier-free guidance by navigation; None for none (1.5).
    """

    batch_size, batch_wait_ms = 1, 0.0

    def __init__(
        self,
        version: str = "1.5",
        cameras: int = 4,
        camera_ids: str | None = None,
        weights: str | None = None,
        download: bool = False,
        device: str = "cuda",
        attention: str = "sdpa",
        samples: int = 1,
        top_p: float = 0.98,
        temperature: float = 0.6,
        max_generation_length: int = 256,
        navigation: str = "none",
        nav_guidance: float | None = None,
    ) -> None:
        version = str(version).removesuffix(".0")
        _check("version", version, version in RELEASES, f"one of {', '.join(RELEASES)}")
        _check("cameras", cameras, cameras in SETS, f"one of {', '.join(map(str, SETS))}")
        _check("samples", samples, 1 <= samples <= 64, "1 to 64")
        _check("top_p", top_p, 0 < top_p <= 1, "more than 0, at most 1")
        _check("temperature", temperature, 0 < temperature <= 10, "more than 0, at most 10")
        _check(
            "max_generation_length", max_generation_length, 1 <= max_generation_length <= 4096,
            "1 to 4096",
        )  # fmt: skip
        self.release = RELEASES[version]
        if not self.release.any_cameras and (navigation != "none" or nav_guidance is not None):
            raise PluginError(
                f"Alpamayo {version} takes no navigation", where=f"policy.navigation={navigation}",
                remedy="use policy.version=1.5",
            )  # fmt: skip
        if nav_guidance is not None and navigation == "none":
            raise PluginError(
                "guidance needs navigation", where=f"policy.nav_guidance={nav_guidance}",
                remedy="set policy.navigation=route",
            )  # fmt: skip
        self.camera_indices = SETS[cameras]
        names = {index: name for name, index in CAMERA_INDEX.items()}
        own = tuple(names[index] for index in self.camera_indices)
        given = tuple(part.strip() for part in camera_ids.split(",")) if camera_ids else own
        if len(given) != len(own) or not all(given):
            raise PluginError(
                f"{len(given)} camera names for {len(own)} cameras", where=f"policy.camera_ids={camera_ids}",
                remedy=f"name, in this order, those that stand for {', '.join(own)}",
            )  # fmt: skip
        self.camera_ids = given
        self.samples, self.top_p, self.temperature = samples, top_p, temperature
        self.max_generation_length, self.navigation = max_generation_length, navigation
        self.nav_guidance, self.device, self.attention = nav_guidance, device, attention
        self.weights, self.download = weights or self.release.weights, download
        self.spec = PolicySpec(
            cameras=given, images=ImageHistory(FRAMES, 1e6 / STEP_US),
            ego_history_s=HISTORY_S + 0.2,  # t0 may be as old as the newest frame
            rate_hz=10.0, horizon_s=6.0, route=navigation == "route",
        )  # fmt: skip
        self._loaded: Loaded | None = None

    def requirements(self) -> Iterator[Requirement]:
        """What it needs from this machine, and what is here."""
        return requirements(
            self.release, self.weights, self.device, self.samples, self.nav_guidance is not None
        )

    def connect(self) -> None:
        """Load the model, once, before a run starts."""
        self._model()

    def open(self, session: SessionInfo, cameras: tuple[Camera, ...]) -> AlpamayoSession:
        """Begin a rollout."""
        return AlpamayoSession(session.seed, session.handover_us)

    def plan_batch(
        self, observations: Sequence[Observation], sessions: Sequence[AlpamayoSession]
    ) -> list[Plan | Exception]:
        """Plan for each; what fails, fails alone."""
        return [self._plan(o, s) for o, s in zip(observations, sessions, strict=True)]

    def _plan(self, observation: Observation, session: AlpamayoSession) -> Plan | Exception:
        try:
            given = model_input(observation, self.camera_ids, self.navigation)
            if given is None:
                if observation.time_us < session.handover_us:
                    return Plan()
                raise PolicyError(
                    f"fewer than {FRAMES} frames of each camera, or less than {HISTORY_S} s of ego motion",
                    where=f"{observation.session_id} at {observation.time_us} us",
                    remedy="leave sync.warmup_s=auto, and let cameras give 10 frames a second or more",
                )
            seed = derive_seed(session.seed, "plan", observation.time_us)
            xyz, rotation, reasoning = self._ask(given, seed)
            return _plan_of(observation, given, xyz, rotation, reasoning)
        except PolicyError as error:
            return error
        except Exception as error:
            return PolicyError(
                f"Alpamayo failed: {type(error).__name__}: {str(error)[:300]}",
                where=f"{observation.session_id} at {observation.time_us} us",
                remedy="see `omniloop doctor policy=alpamayo`",
            )

    def _model(self) -> Loaded:
        if self._loaded is None:
            self._loaded = load(
                self.release, self.weights, self.device, self.attention, self.download
            )
        return self._loaded

    def _ask(self, given: ModelInput, seed: int) -> tuple[Array, Array, str]:
        """Waypoints ``(samples, 64, 3)`` and rotations ``(samples, 64, 3, 3)`` in rig(t0)."""
        import torch

        loaded = self._model()
        images = torch.from_numpy(np.ascontiguousarray(given.images))
        if self.release.any_cameras:
            messages = loaded.helper.create_message(
                images, camera_indices=torch.tensor(self.camera_indices),
                num_frames_per_camera=FRAMES, nav_text=given.navigation,
            )  # fmt: skip
        else:
            messages = loaded.helper.create_message(images)
        tokens = loaded.processor.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=False, continue_final_message=True,
            return_dict=True, return_tensors="pt",
        )  # fmt: skip
        # Made anew for each call: version 1 takes things out of it.
        data = {
            "tokenized_data": tokens,
            "ego_history_xyz": torch.from_numpy(given.history_m).float()[None, None],
            "ego_history_rot": torch.from_numpy(given.history_rotation).float()[None, None],
        }
        data = loaded.helper.to_device(data, self.device)
        kwargs: dict[str, Any] = {}
        ask = loaded.model.sample_trajectories_from_data_with_vlm_rollout
        if self.nav_guidance is not None and given.navigation is not None:
            ask = loaded.model.sample_trajectories_from_data_with_vlm_rollout_cfg_nav
            kwargs["diffusion_kwargs"] = {
                "use_classifier_free_guidance": True,
                "inference_guidance_weight": self.nav_guidance,
            }
        device = torch.device(self.device)
        # The model draws from torch's global generators: they are put back as they were.
        devices = [device] if device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices), torch.no_grad(),
            torch.autocast(device.type, dtype=torch.bfloat16),
        ):  # fmt: skip
            torch.manual_seed(seed)
            xyz, rotation, extra = ask(
                data=data, top_p=self.top_p, temperature=self.temperature,
                num_traj_samples=self.samples, max_generation_length=self.max_generation_length,
                return_extra=True, **kwargs,
            )  # fmt: skip
        return (
            _array(xyz, (self.samples, WAYPOINTS, 3)),
            _array(rotation, (self.samples, WAYPOINTS, 3, 3)),
            _text(extra),
        )


class AlpamayoSession:
    """One rollout: the models keep nothing from one decision to the next."""

    def __init__(self, seed: int, handover_us: int) -> None:
        self.seed, self.handover_us = seed, handover_us


def _check(name: str, value: object, good: bool, remedy: str) -> None:
    if not good:
        raise PluginError(f"{name} is {value}", where=f"policy.{name}", remedy=f"give {remedy}")


def _array(tensor: Any, shape: tuple[int, ...]) -> Array:
    """The one batch and set of an output ``(1, 1, *shape)``, as float64.

    Raises:
        PolicyError: another shape, or numbers that are not finite.
    """
    out = np.asarray(tensor.detach().float().cpu().numpy(), dtype=np.float64)
    if out.shape != (1, 1, *shape):
        raise PolicyError(
            f"the model gave {out.shape} instead of {(1, 1, *shape)}",
            remedy="use the release that policy.version names",
        )
    if not np.isfinite(out).all():
        raise PolicyError("the model gave numbers that are not finite", remedy="look at its inputs")
    return np.asarray(out[0, 0])


def _text(extra: Any) -> str:
    """The first sample's chain of causation, however deep it is nested."""
    found = extra.get("cot", "") if isinstance(extra, dict) else ""
    while not isinstance(found, str):
        if len(found) == 0:
            return ""
        found = found[0]
    return found.strip()


def _plan_of(
    observation: Observation, given: ModelInput, xyz_m: Array, rotation: Array, reasoning: str
) -> Plan:
    """Waypoints in rig(t0) as poses in `local`; the plan begins at ego now."""
    times_us = given.time_us + STEP_US * np.arange(1, WAYPOINTS + 1)
    later = times_us > observation.time_us
    yaw_rad = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])
    # Their heights are those of the ground at t0: the ground model has the last word.
    flat = np.concatenate([xyz_m[..., :2], np.zeros((*xyz_m.shape[:-1], 1))], axis=-1)
    now = observation.ego.local_to_rig[-1]
    paths = []
    for k in range(len(xyz_m)):
        poses = geometry.compose(
            given.local_to_rig, geometry.poses_from_xyz_yaw(flat[k], yaw_rad[k])
        )
        paths.append(
            Trajectory(
                np.concatenate([[observation.time_us], times_us[later]]),
                np.concatenate([now[None], poses[later]]),
            )
        )
    return Plan(paths[0], samples=tuple(paths), reasoning=reasoning)
