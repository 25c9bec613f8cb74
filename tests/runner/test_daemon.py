"""The daemon: requests side by side, their drivers, answers, ends and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
import weakref
import zipfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc
import numpy as np
import pytest
import yaml
from grpc import StatusCode

from omniloop.configs.compose import compose
from omniloop.core.errors import RunFolderError, ServiceError
from omniloop.core.registry import create
from omniloop.metrics.alpasim_steps import summed_up
from omniloop.runlog.digest import digest_run
from omniloop.runlog.folder import read_run_yaml
from omniloop.runlog.results import find_results
from omniloop.runner.assemble import Setup
from omniloop.runner.batch.executor import WorkerDied
from omniloop.runner.daemon_request import request_config
from omniloop.runner.run import execute
from omniloop.runner.step_metrics import read_step_metrics
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.usdz_write import write_usdz
from omniloop.services.connection import open_channels
from omniloop.services.protos import runtime_pb2 as pb
from omniloop.services.protos.common_pb2 import Empty
from omniloop.services.rpc import methods_of
from omniloop.services.runtime_codec import Asked, AskedRollout
from tests.live.brokers import free_port
from tests.runner.daemon_stage import (
    LONG_S,
    SHORT,
    Held,
    Interrupted,
    daemon,
    driver,
    service,
    until,
)

pytestmark = pytest.mark.timeout(600)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, LONG_S))


def only_folder(runs: Path) -> Path:
    (folder,) = runs.iterdir()
    return folder


async def refused(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


# -------------------------------------------------------------------------- results


def test_two_clients_with_drivers_of_their_own_get_what_two_runs_get(tmp_path: Path) -> None:
    policies = ("constant_velocity", "brake_to_stop")

    async def body() -> None:
        async with (
            driver(create("policy", policies[0], {})) as (_, one),
            driver(create("policy", policies[1], {})) as (_, two),
            daemon(tmp_path / "daemon", "policy=remote") as (_, client),
        ):
            asked = [client.simulate(("curve", 2), ("cut_in", 1), drivers=(p,)) for p in (one, two)]
            replies = await asyncio.gather(*asked)
            folders = {
                read_run_yaml(f)["config"]["policy"]["address"]: f
                for f in (tmp_path / "daemon").iterdir()
            }
            for name, port, reply in zip(policies, (one, two), replies, strict=True):
                folder = folders[f"127.0.0.1:{port}"]
                settings = [
                    *SHORT, "policy=remote", f"policy.address=127.0.0.1:{port}", "run.seeds=2",
                    "scenes.ids=curve,cut_in", f"run.dir={tmp_path}", f"run.name={name}",
                ]  # fmt: skip
                await asyncio.to_thread(execute, compose(settings))
                there = {n: sha for sha, n in digest_run(tmp_path / name)}
                here = {n: sha for sha, n in digest_run(folder)}
                assert here == {n: there[n] for n in ("curve/0", "curve/1", "cut_in/0")}
                scores = {r.session_id: r.metrics for r in find_results(tmp_path / name).results}
                for result in find_results(folder).results:
                    assert result.metrics == scores[result.session_id]
                assert [r.success for r in reply.rollout_returns] == [True] * 3
        first, second = ([dict(r.aggregated_metrics) for r in x.rollout_returns] for x in replies)
        assert first != second

    run(body())


def test_the_reply_holds_series_and_their_sums_over_valid_rows(tmp_path: Path) -> None:
    async def body() -> None:
        async with daemon(tmp_path) as (_, client):
            reply = await client.simulate(("junction", 1, ["mine"]))
        (returned,) = reply.rollout_returns
        assert returned.rollout_uuid == "mine"
        assert returned.rollout_spec.session_uuids == ["mine"]
        assert (returned.success, returned.error, returned.error_code) == (True, "", 0)
        series = {m.name: m for m in returned.timestep_metrics}
        assert {"collision_any", "offroad", "progress", "plan_deviation", "eval_relevant"} <= set(
            series
        )
        for metric in series.values():
            valid = np.array(metric.valid)
            values = np.array(metric.values)
            assert len(values) == len(valid) == len(metric.timestamps_us)
            assert np.array_equal(np.isnan(values), ~valid)
            left = values[valid]
            expected = {
                pb.TIME_AGGREGATION_MEAN: np.mean, pb.TIME_AGGREGATION_MAX: np.max,
                pb.TIME_AGGREGATION_MIN: np.min, pb.TIME_AGGREGATION_LAST: lambda x: x[-1],
            }  # fmt: skip
            if len(left):
                wanted = expected[metric.time_aggregation](left)
                assert returned.aggregated_metrics[metric.name] == pytest.approx(wanted, abs=1e-12)
            else:
                assert metric.name not in returned.aggregated_metrics
        decisions_us = list(series["open_loop_collision"].timestamps_us)
        assert set(np.diff(decisions_us)) == {100_000}
        assert len(decisions_us) < len(series["progress"].timestamps_us)
        assert series["plan_deviation"].timestamps_us == decisions_us[1:]
        assert all(series["plan_deviation"].valid)
        assert "img_is_black" not in series  # nothing is rendered
        assert "safety_monitor_triggered" not in series
        steps = read_step_metrics(only_folder(tmp_path) / "rollouts" / "junction" / "0")
        assert summed_up(steps) == dict(returned.aggregated_metrics)
        assert all(math.isfinite(v) for v in returned.aggregated_metrics.values())
        assert reply.runtime_version.version_id.startswith("omniloop ")
        assert reply.driver_version.version_id.endswith(" route_follower")
        assert reply.nre_version.version_id == "<skip>"

    run(body())


def test_images_are_looked_at_where_there_are_any(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        small = ("renderer=rasterizer", "renderer.width=64", "renderer.height=48")
        async with daemon(tmp_path / "one", *small, "sync.duration_s=0.5") as (_, client):
            (returned,) = (await client.simulate(("curve", 1))).rollout_returns
            series = {m.name: m for m in returned.timestep_metrics}
            black = series["img_is_black"]
            assert black.time_aggregation == pb.TIME_AGGREGATION_MAX
            assert set(black.values) == {0.0}
            # The first frame comes after the context start, which is a row of its own.
            assert black.timestamps_us == series["progress"].timestamps_us[1:]
            assert returned.aggregated_metrics["img_is_black"] == 0.0
            # The result is that of `omniloop run`, which looks at no image unless it is told to.
            (result,) = find_results(only_folder(tmp_path / "one")).results
            assert result.metrics["alpasim_img_is_black"].value is None
            monkeypatch.setattr(
                "omniloop.runlog.black_frames.is_black", Mock(side_effect=ValueError("torn"))
            )
            (returned,) = (await client.simulate(("curve", 1))).rollout_returns
            assert returned.success
            assert "img_is_black" not in returned.aggregated_metrics
            assert series.keys() - {m.name for m in returned.timestep_metrics} == {"img_is_black"}
        assert "curve/0: img_is_black is left out: the frame of" in caplog.text

    run(body())


def test_the_same_request_has_the_same_bytes(tmp_path: Path) -> None:
    async def body() -> None:
        method = methods_of(pb.DESCRIPTOR.services_by_name["RuntimeService"])["simulate"]
        request = pb.SimulationRequest(
            rollout_specs=[pb.RolloutSpec(scenario_id="curve", nr_rollouts=1, session_uuids=["a"])]
        )
        replies = []
        for place in ("one", "two"):
            async with daemon(tmp_path / place) as (_, client):
                call = client.channel.unary_unary(
                    method.path, method.request.SerializeToString, bytes
                )
                replies.append(await call(request, timeout=LONG_S))
        assert replies[0] == replies[1]
        parsed = pb.SimulationReturn.FromString(replies[0])  # maps differ between processes
        assert replies[0] == parsed.SerializeToString(deterministic=True)

    run(body())


def test_rollouts_of_a_scene_count_their_seeds_up_over_specs_from_the_first(tmp_path: Path) -> None:
    async def body() -> None:
        async with daemon(tmp_path) as (_, client):
            await client.simulate(
                ("curve", 2), ("cut_in", 1), ("curve", 1), ("straight_road", 0),
                metadata=(("omniloop-first-seed", "7"),),
            )  # fmt: skip
        keys = [r.key for r in find_results(only_folder(tmp_path)).results]
        assert keys == [("curve", 7), ("curve", 8), ("curve", 9), ("cut_in", 7)]

    run(body())


def test_drivers_know_their_sessions_by_the_uuids_of_the_client(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            driver(create("policy", "brake_to_stop", {})) as (watched, port),
            daemon(tmp_path, "policy=remote") as (_, client),
        ):
            reply = await client.simulate(
                ("curve", 2, ["a", "b"]), ("cut_in", 1), drivers=(port,), at_once=1
            )
            names = [r.rollout_uuid for r in reply.rollout_returns]
            assert names[:2] == ["a", "b"]
            assert sorted(watched.began) == sorted(names)
            assert watched.most == 1  # n_concurrent_per_driver
            settings = read_run_yaml(only_folder(tmp_path))
            assert settings["rollout_uuids"] == {
                "curve/0": "a", "curve/1": "b", "cut_in/0": names[2],
            }  # fmt: skip

    run(body())


def test_a_rollout_that_is_tried_again_ends_the_session_that_was_left_open(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            driver(create("policy", "brake_to_stop", {}), Interrupted) as (watched, port),
            daemon(tmp_path, "policy=remote") as (_, client),
        ):
            reply = await client.simulate(("curve", 1, ["mine"]), drivers=(port,))
            assert [r.success for r in reply.rollout_returns] == [True]
            assert (watched.began, watched.open) == (["mine", "mine"], 0)
            (result,) = find_results(only_folder(tmp_path)).results
            assert result.attempts == 2

    run(body())


# -------------------------------------------------------------------------- ends


def test_a_client_that_goes_away_frees_its_sessions_and_the_other_goes_on(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            driver(held := Held()) as (watched, port),
            daemon(tmp_path, "policy=remote", "run.concurrency=2") as (found, client),
        ):
            gone = client.simulate(("curve", 50), drivers=(port,))
            await until(lambda: watched.open == 2)
            stays = client.simulate(("cut_in", 1), drivers=(port,))
            await until(lambda: found.under_way == 2)
            gone.cancel()
            await until(lambda: len(watched.began) == 3)  # only then there is a place for it
            held.go.set()
            assert [r.success for r in (await stays).rollout_returns] == [True]
            await until(lambda: (watched.open, found.under_way) == (0, 0))
            assert found._batch is not None
            assert found._batch.scheduler.idle
            assert len(watched.began) == 3

    run(body())


def test_worker_processes_give_the_same_results_and_end_what_is_cancelled(tmp_path: Path) -> None:
    async def body() -> None:
        specs = (("curve", 2), ("cut_in", 1))
        async with daemon(tmp_path / "inline") as (_, client):
            alone = await client.simulate(*specs)
        settings = ("run.workers=2", "run.concurrency=2")
        async with (
            driver(Held()) as (watched, port),
            daemon(tmp_path / "workers", *settings) as (found, client),
        ):
            reply = await client.simulate(*specs)
            scores, expected = (
                [dict(r.aggregated_metrics) for r in x.rollout_returns] for x in (reply, alone)
            )
            assert scores == expected
            assert len(scores[0]) > 10
            assert (await client.call("get_runtime_info", Empty())).nr_workers == 2
            gone = client.simulate(("curve", 50), drivers=(port,))
            await until(lambda: watched.open == 2)
            gone.cancel()
            await until(lambda: found.under_way == 0)
            assert watched.open == 0
            assert len(watched.began) == 2

    run(body())


def test_a_small_request_does_not_wait_for_a_large_one(tmp_path: Path) -> None:
    async def body() -> None:
        async with daemon(tmp_path, "run.concurrency=2") as (_, client):
            large = client.simulate(("curve", 1000))
            await until(lambda: any(tmp_path.glob("*/rollouts/curve/*/result.json")))
            await client.simulate(("cut_in", 2))
            assert not large.done()
            done = {r.scene for f in tmp_path.iterdir() for r in find_results(f).results}
            assert done == {"curve", "cut_in"}
            large.cancel()

    run(body())


def test_each_request_has_its_own_sessions_at_a_driver_that_two_name(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            driver(held := Held()) as (watched, port),
            daemon(tmp_path, "policy=remote", "run.concurrency=8") as (_, client),
        ):
            asked = [
                client.simulate(("curve", 3), drivers=(port,), at_once=1),
                client.simulate(("cut_in", 6), drivers=(port,), at_once=2),
            ]
            await until(lambda: watched.open == 3)
            held.go.set()
            await asyncio.gather(*asked)
            assert watched.most == 3

    run(body())


def test_a_daemon_that_stops_takes_nothing_more_and_answers_what_it_has(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            driver(held := Held()) as (watched, port),
            daemon(tmp_path) as (found, client),
        ):
            asked = client.simulate(("curve", 2), drivers=(port,))
            await until(lambda: watched.open > 0)
            await client.call("shut_down", Empty())
            code, words = await refused(client.simulate(("curve", 1)))
            assert (code, "stopping" in words) == (StatusCode.UNAVAILABLE, True)
            held.go.set()
            await found.drained()
            assert [r.success for r in (await asked).rollout_returns] == [True, True]

    run(body())


# -------------------------------------------------------------------------- what stays


def test_many_requests_leave_nothing_but_the_folders_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setups: weakref.WeakSet[Setup] = weakref.WeakSet()
    made = Setup.__init__

    def init(self: Setup, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        setups.add(self)

    monkeypatch.setattr(Setup, "__init__", init)

    async def body() -> None:
        async with daemon(tmp_path, "policy=remote", "sync.duration_s=0.3", keep=2) as (
            found,
            client,
        ):
            for _ in range(6):
                async with driver(create("policy", "brake_to_stop", {})) as (_, port):
                    await client.simulate(("curve", 1), drivers=(port,))

            def are_gone() -> bool:
                gc.collect()
                return len(setups) <= 2  # the daemon's own, and what the last task still holds

            await until(are_gone)
            assert open_channels() == 0
            batch = found._batch
            assert batch is not None
            assert (batch.scheduler.addresses(), batch.scheduler.requests()) == ((), {})
            assert batch.scheduler.idle
            names = sorted(p.name[-6:] for p in tmp_path.iterdir())
            assert names == ["000005", "000006"]

    run(body())


def test_services_stay_connected_and_one_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    port = free_port()

    async def body() -> None:
        async with service("traffic", "log_replay", port):
            settings = ("traffic=remote", f"traffic.address=127.0.0.1:{port}", "run.retries=0")
            stage = daemon(tmp_path, *settings)
            found, client = await stage.__aenter__()
            (first,) = (await client.simulate(("curve", 1))).rollout_returns
            assert open_channels() == 1
        (broken,) = (await client.simulate(("curve", 1))).rollout_returns
        assert not broken.success
        assert "traffic cannot be reached" in broken.error
        assert broken.error_code == pb.ROLLOUT_ERROR_CODE_UNSPECIFIED
        assert not broken.aggregated_metrics
        async with service("traffic", "log_replay", port):
            again = broken
            async with asyncio.timeout(LONG_S / 2):
                while not again.success:
                    await asyncio.sleep(0.5)
                    (again,) = (await client.simulate(("curve", 1))).rollout_returns
            assert dict(again.aggregated_metrics) == dict(first.aggregated_metrics)
            assert open_channels() == 1
        await stage.__aexit__(None, None, None)
        assert found.under_way == 0

    run(body())


# -------------------------------------------------------------------------- bad input


def test_what_cannot_be_asked_for_is_refused_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        async with daemon(tmp_path) as (_, client):
            bad = StatusCode.INVALID_ARGUMENT
            for call, code, words in (
                (client.simulate(), bad, "asks for 0 rollouts"),
                (client.simulate(("curve", 0)), bad, "asks for 0 rollouts"),
                (client.simulate(("curve", 2**32 - 1), ("cut_in", 2**32 - 1)), bad, "8589934590"),
                (client.simulate(("curv", 1)), bad, "unknown scene 'curv'. Did you mean 'curve'?"),
                (client.simulate(("../../etc", 1)), bad, "unknown scene"),
                (client.simulate(("", 1)), bad, "unknown scene"),
                (client.simulate(("curve", 2, ["a"])), bad, "1 session_uuids for 2 rollouts"),
                (client.simulate(("curve", 0, ["a"])), bad, "asks for 0"),
                (client.simulate(("curve", 2, ["a", "a"])), bad, "'a' comes twice"),
                (client.simulate(("curve", 1, ["a"]), ("cut_in", 1, ["a"])), bad, "comes twice"),
                (client.simulate(("curve", 1, [" "])), bad, "printable"),
                (client.simulate(("curve", 1, ["x" * 300])), bad, "printable"),
                (client.simulate(("curve", 1), drivers=(5, 5)), bad, "127.0.0.1:5 comes twice"),
                (client.simulate(("curve", 1), drivers=(5,), at_once=0), bad, "n_concurrent_per_driver"),
                (client.simulate(("curve", 1), drivers=(70_000,)), bad, "port 70000 is no address"),
                (client.simulate(("curve", 1), metadata=(("omniloop-first-seed", "-1"),)), bad, "whole"),
            ):  # fmt: skip
                found, said = await refused(call)
                assert (found, words in said) == (code, True), said
            request = pb.SimulationRequest(
                rollout_specs=[pb.RolloutSpec(scenario_id="curve", nr_rollouts=1)],
                available_drivers=[pb.SimulationRequest.DriverAddress(ip="a:1,b", port=5)],
                n_concurrent_per_driver=1,
            )
            assert (await refused(client.call("simulate", request)))[0] == bad
        assert not tmp_path.exists() or not list(tmp_path.iterdir())

    run(body())


def test_a_driver_that_nobody_is_at_is_named_soon(tmp_path: Path) -> None:
    async def body() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            settings = ("policy=remote", "policy.connect_timeout_s=0.3")
            async with daemon(tmp_path, *settings) as (found, client):
                code, words = await refused(client.simulate(("curve", 1), drivers=(port,)))
                assert code == StatusCode.INVALID_ARGUMENT
                assert f"nothing answers at 127.0.0.1:{port} within 0.3 s" in words
                assert (found.under_way, open_channels()) == (0, 0)
                code, words = await refused(client.simulate(("curve", 1)))
                assert (code, "give a driver" in words) == (StatusCode.INVALID_ARGUMENT, True)

    run(body())


def test_a_uuid_that_is_under_way_and_one_request_too_many_are_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            driver(Held()) as (watched, port),
            daemon(tmp_path, requests=1) as (_, client),
        ):
            first = client.simulate(("curve", 1, ["mine"]), drivers=(port,))
            await until(lambda: watched.open == 1)
            code, words = await refused(client.simulate(("cut_in", 1)))
            assert (code, "under way" in words) == (StatusCode.RESOURCE_EXHAUSTED, True)
            first.cancel()
        async with (
            driver(Held()) as (watched, port),
            daemon(tmp_path) as (_, client),
        ):
            first = client.simulate(("curve", 1, ["mine"]), drivers=(port,))
            await until(lambda: watched.open == 1)
            code, words = await refused(client.simulate(("cut_in", 1, ["mine"])))
            assert (code, "'mine' is under way" in words) == (StatusCode.ALREADY_EXISTS, True)
            first.cancel()

    run(body())


def test_a_scene_that_cannot_be_run_fails_its_rollouts_alone(tmp_path: Path) -> None:
    async def body() -> None:
        settings = ("sync.duration_s=null", "sync.warmup_s=17.5")  # some scenes are shorter
        async with daemon(tmp_path, *settings) as (_, client):
            reply = await client.simulate(("cut_in", 1), ("stopped_lead", 1))
            short, long = reply.rollout_returns
            assert (short.success, long.success) == (False, True)
            assert short.error_code == pb.ROLLOUT_ERROR_CODE_INVALID_SCENE
            assert short.error
            assert not short.timestep_metrics
            alone = await client.simulate(("cut_in", 2))
            assert [r.error_code for r in alone.rollout_returns] == [2, 2]
        assert len(list(tmp_path.iterdir())) == 1

    run(body())


def test_a_policy_that_breaks_its_contract_fails_its_rollout(tmp_path: Path) -> None:
    class Broken(Held):
        async def plan(self, observation: Any) -> Any:
            raise RuntimeError("no idea")

    async def body() -> None:
        async with (
            driver(Broken()) as (_, port),
            daemon(tmp_path) as (_, client),
        ):
            reply = await client.simulate(("curve", 1), drivers=(port,))
            (returned,) = reply.rollout_returns
            assert not returned.success
            assert "policy_failed" in returned.error
            assert "no idea" in returned.error

    run(body())


def test_information_names_scenes_versions_and_capacities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omniloop.runner.daemon._LOADING_S", LONG_S)

    async def body() -> None:
        async with daemon(tmp_path, "policy=remote", "run.concurrency=3") as (_, client):
            info = await client.call("get_runtime_info", Empty())
        assert info.max_supported_concurrent_rollouts == 3
        assert (info.nr_workers, info.renderer_type) == (1, "none")
        scenes = {scene.scene_id: scene for scene in info.scenes}
        assert len(scenes) == 6
        assert scenes["curve"].provider_kind == "embedded"
        assert scenes["curve"].metadata.camera_ids == ["camera_front_wide_120fov"]
        assert scenes["curve"].metadata.end_time_us == 17_000_000
        capacities = {
            c.service_name: (c.total_capacity, c.skipped) for c in info.service_capacities
        }
        assert capacities == {
            "controller": (3, False), "driver": (0, False), "physics": (3, False),
            "renderer": (0, True), "trafficsim": (3, False),
        }  # fmt: skip
        assert info.traffic_version.version_id.endswith(" log_replay")

    run(body())


def test_information_of_an_archive_is_what_it_publishes(tmp_path: Path) -> None:
    path = write_usdz(EmbeddedScenes().load("curve"), tmp_path / "scenes" / "curve.usdz")
    with zipfile.ZipFile(path) as archive:
        published = yaml.safe_load(archive.read("metadata.yaml"))
    source = ("scenes=usdz", f"scenes.path={path.parent}")

    async def body() -> None:
        async with daemon(tmp_path / "runs", *source) as (found, client):
            told = [await client.call("get_runtime_info", Empty())]
            found._scenes.facts.clear()
            await client.simulate(("curve", 1))
            path.unlink()  # what was told once is not looked up again
            await client.simulate(("curve", 1))
            told.append(await client.call("get_runtime_info", Empty()))
        for info in told:
            (scene,) = info.scenes
            assert scene.provider_kind == "usdz"
            for key in ("uuid", "dataset_hash", "version_string", "training_date"):
                assert getattr(scene.metadata, key) == published[key]
            assert scene.metadata.camera_ids == published["sensors"]["camera_ids"]
            assert scene.metadata.end_time_us == published["time_range"]["end"]

    run(body())


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_taken(tmp_path: Path) -> None:
    async def body() -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RunFolderError, match="cannot be used: Not a directory") as caught:
            async with daemon(tmp_path / "file" / "runs"):
                pass
        assert "--runs" in caught.value.remedy
        async with daemon(tmp_path / "gone") as (_, client):
            (tmp_path / "gone").rmdir()
            (tmp_path / "gone").write_text("")
            code, words = await refused(client.simulate(("curve", 1)))
            assert (code, "gone" in words) == (StatusCode.UNAVAILABLE, True)

    run(body())


def test_a_daemon_whose_workers_cannot_be_replaced_lets_nobody_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with daemon(tmp_path) as (found, client):
            batch = found._batch
            assert batch is not None
            died = WorkerDied("it died", where="here")
            monkeypatch.setattr(batch.executor, "run", AsyncMock(side_effect=died))
            failure = ServiceError("there is no memory for another")
            monkeypatch.setattr(batch.executor, "replace", AsyncMock(side_effect=failure))
            for words in ("no memory for another", "no worker is left"):
                code, said = await refused(client.simulate(("curve", 1)))
                assert (code, words in said) == (StatusCode.UNAVAILABLE, True)

    run(body())


@pytest.mark.parametrize("own", ["brake_to_stop", "remote"])
def test_drivers_are_given_up_soon_unless_the_daemon_says_otherwise(own: str) -> None:
    base = compose([*SHORT, f"policy={own}"])
    asked = Asked((AskedRollout(0, "curve", 0, "mine"),), ("127.0.0.1:5",), 2)
    chosen = request_config(base, asked, "name", Path("runs")).policy.arguments
    assert (chosen["connect_timeout_s"], chosen["timeouts_s"]["close_session"]) == (5.0, 5.0)
    if own == "remote":
        base = compose([*SHORT, "policy=remote", "policy.connect_timeout_s=9"])
        chosen = request_config(base, asked, "name", Path("runs")).policy.arguments
        assert chosen["connect_timeout_s"] == 9
