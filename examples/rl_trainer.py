r"""A policy learns how hard to brake, by trial and error, from rollouts of a daemon.

omniloop daemon policy=remote renderer=none metrics=alpasim --keep 10 \
    sync.decision_period_us=200000 sync.duration_s=12 run.stop_on=collision
python examples/rl_trainer.py 127.0.0.1:50050
"""

import asyncio
import sys

import grpc
import numpy as np

from omniloop.core import geometry
from omniloop.core.contracts import Observation, Plan, PolicySpec
from omniloop.core.local import as_service
from omniloop.core.motion import Trajectory
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.services.driver_server import EgodriverServicer
from omniloop.services.protos.runtime_pb2 import RolloutSpec, SimulationRequest, SimulationReturn
from omniloop.services.serving import Listening, start_server
from omniloop.services.shelf import SceneShelf

ROLLOUTS, LEARNING_RATE, SPREAD_MPS2 = 8, 0.8, 0.6


class Brakes:
    """Follows its route and brakes all the way: by `mps2[k]` in the rollout of seed k."""

    spec = PolicySpec(horizon_s=3.0, route=True)
    mps2 = np.zeros(ROLLOUTS)

    def plan(self, observation: Observation) -> Plan:
        mps2 = self.mps2[int(observation.session_id.rpartition("/")[2])]
        now, speed_mps = observation.ego.local_to_rig[-1], observation.ego.dynamics[-1, 0]
        offset_us = 100_000 * np.arange(31)
        at_s = np.minimum(offset_us / 1e6, max(speed_mps, 0.0) / max(mps2, 1e-3))  # until it stands
        way = observation.route.waypoints_rig.copy()
        way[0] = 0.0
        ahead = geometry.resample_polyline(way, speed_mps * at_s - mps2 * at_s**2 / 2)
        poses = geometry.poses_from_xyz_yaw(ahead, np.arctan2(ahead[:, 1], ahead[:, 0] + 1e-3))
        return Plan(Trajectory(observation.time_us + offset_us, geometry.compose(now, poses)))


def reward(returned: SimulationReturn.RolloutReturn) -> float:
    """Progress along the recorded way, less one for an accident."""
    scores = returned.aggregated_metrics
    return scores["progress"] - scores["collision_any"]


async def train(address: str, steps: int, scene: str = "stopped_lead") -> list[float]:
    policy, rng, mean_mps2, rewards = Brakes(), np.random.default_rng(0), 0.0, []
    served = EgodriverServicer(as_service("policy", policy), SceneShelf(EmbeddedScenes()))
    server, port = await start_server([served], Listening())
    driver = SimulationRequest.DriverAddress(ip="127.0.0.1", port=port)
    spec = RolloutSpec(scenario_id=scene, nr_rollouts=ROLLOUTS)
    request = SimulationRequest(
        available_drivers=[driver], rollout_specs=[spec], n_concurrent_per_driver=4
    )
    limits = [("grpc.max_receive_message_length", 100 << 20)]  # series are long
    try:
        async with grpc.aio.insecure_channel(address, limits) as channel:
            simulate = channel.unary_unary(
                "/RuntimeService/simulate", SimulationRequest.SerializeToString, SimulationReturn.FromString
            )  # fmt: skip
            for step in range(steps):
                noise = rng.standard_normal(ROLLOUTS)
                policy.mps2 = np.maximum(mean_mps2 + SPREAD_MPS2 * noise, 0.0)
                reply = await simulate(request)
                got = np.array([reward(returned) for returned in reply.rollout_returns])
                advantage = (got - got.mean()) / (got.std() + 1e-6)
                rewards.append(float(got.mean()))
                print(f"step {step}: braking {mean_mps2:.2f} m/s2, mean reward {rewards[-1]:.3f}")
                mean_mps2 += LEARNING_RATE * SPREAD_MPS2 * float(np.mean(advantage * noise))
    finally:
        await server.stop(None)
    return rewards


if __name__ == "__main__":
    try:
        asyncio.run(train((sys.argv + ["127.0.0.1:50050"])[1], steps=8))
    except grpc.aio.AioRpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
