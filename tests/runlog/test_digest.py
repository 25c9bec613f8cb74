"""The digest follows what was simulated and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mcap.records import Attachment, Channel, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer

from omniloop.core.errors import RunFolderError
from omniloop.runlog import writer
from omniloop.runlog.digest import digest, digest_run
from tests.runlog.samples import make_scene, play


def rewrite(source: Path, target: Path, compression: CompressionType, chunk_size: int) -> None:
    """The same messages in another container."""
    with source.open("rb") as old, target.open("wb") as new:
        out = Writer(
            new, chunk_size=chunk_size, compression=compression, use_chunking=chunk_size > 0
        )
        out.start(library="somebody else")
        schemas: dict[int, int] = {}
        channels: dict[int, int] = {}
        for record in StreamReader(old).records:
            if isinstance(record, Schema) and record.id not in schemas:
                schemas[record.id] = out.register_schema(record.name, record.encoding, record.data)
            elif isinstance(record, Channel) and record.id not in channels:
                channels[record.id] = out.register_channel(
                    record.topic, record.message_encoding, schemas[record.schema_id]
                )
            elif isinstance(record, Attachment):
                out.add_attachment(1, 1, record.name, record.media_type, record.data)
            elif isinstance(record, Message):
                out.add_message(
                    channels[record.channel_id], record.log_time, record.data, record.publish_time
                )
        out.finish()


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunk_size", [0, 3000, 10 << 20])
def test_the_container_does_not_matter(
    tmp_path: Path, compression: CompressionType, chunk_size: int
) -> None:
    play(tmp_path / "log.mcap")
    rewrite(tmp_path / "log.mcap", tmp_path / "other.mcap", compression, chunk_size)
    assert (tmp_path / "other.mcap").read_bytes() != (tmp_path / "log.mcap").read_bytes()
    assert digest(tmp_path / "other.mcap") == digest(tmp_path / "log.mcap")


def test_name_and_settings_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    play(tmp_path / "log.mcap", config={"sync": {"strategy": "prefetch"}})
    play(tmp_path / "elsewhere" / "x.mcap", config={"sync": {}, "note": "hello"})
    assert digest(tmp_path / "elsewhere" / "x.mcap") == digest(tmp_path / "log.mcap")


def test_views_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(tmp_path / "log.mcap")
    monkeypatch.setattr(writer.views, "encode_transforms", lambda ego: b"")
    play(tmp_path / "other.mcap")
    assert (tmp_path / "other.mcap").read_bytes() != (tmp_path / "log.mcap").read_bytes()
    assert digest(tmp_path / "other.mcap") == digest(tmp_path / "log.mcap")


def test_one_bit_of_one_pose_matters(tmp_path: Path) -> None:
    record = play(tmp_path / "log.mcap")
    play(tmp_path / "same.mcap", nudge_m=0.0)
    x_m = record.ego.local_to_rig[:, 0]
    nudged = play(tmp_path / "other.mcap", nudge_m=float(np.spacing(x_m[5])))
    assert np.flatnonzero(nudged.ego.local_to_rig[:, 0] != x_m).tolist() == [5]
    assert digest(tmp_path / "same.mcap") == digest(tmp_path / "log.mcap")
    assert digest(tmp_path / "other.mcap") != digest(tmp_path / "log.mcap")


def test_images_scene_and_seed_matter(tmp_path: Path) -> None:
    play(tmp_path / "log.mcap")
    play(tmp_path / "images.mcap", images=2)
    play(tmp_path / "scene.mcap", scene=make_scene(scene_id="other"))
    play(tmp_path / "seed.mcap", seed=1)
    play(tmp_path / "stop.mcap", stopped_by="collision")
    names = ("log", "images", "scene", "seed", "stop")
    assert len({digest(tmp_path / f"{name}.mcap") for name in names}) == 5


def test_a_cut_off_log_has_no_digest(tmp_path: Path) -> None:
    play(tmp_path / "log.mcap")
    data = (tmp_path / "log.mcap").read_bytes()
    (tmp_path / "log.mcap").write_bytes(data[:-20])
    with pytest.raises(RunFolderError, match="incomplete"):
        digest(tmp_path / "log.mcap")


def test_a_run_has_a_digest_per_rollout_by_scene_and_seed(tmp_path: Path) -> None:
    wanted = [("a", 2), ("a", 10), ("b", 0)]
    for scene_id, seed in reversed(wanted):
        folder = tmp_path / "rollouts" / scene_id / str(seed)
        folder.mkdir(parents=True)
        play(folder / "log.mcap", scene=make_scene(scene_id=scene_id), seed=seed)
    digests = digest_run(tmp_path)
    assert [name for _, name in digests] == ["a/2", "a/10", "b/0"]
    assert len({sha for sha, _ in digests}) == 3
    assert digests[0][0] == digest(tmp_path / "rollouts" / "a" / "2" / "log.mcap")


def test_a_folder_without_logs_has_no_digests(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        digest_run(tmp_path)
    (tmp_path / "rollouts").mkdir()
    with pytest.raises(RunFolderError, match="holds no log"):
        digest_run(tmp_path)
