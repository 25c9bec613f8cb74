"""`omniloop rerender` and `omniloop backends` as users meet them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import omniloop

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("renderer.width=64", "renderer.height=48", "sync.duration_s=2", "scenes.ids=curve")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    done = omniloop("run", f"run.dir={path}", "run.name=demo", "policy=constant_velocity", *QUICK)
    assert done.returncode == 0, done.stderr
    return path


def test_a_run_is_drawn_again_and_compared(folder, tmp_path):
    worse = tmp_path / "worse"
    drawn = omniloop("rerender", folder / "demo", "renderer=degraded", "--out", worse)
    assert drawn.returncode == 0, drawn.stderr
    assert "[1/1] curve/0: " in drawn.stdout
    assert f"drawn again: {worse}" in drawn.stdout
    reported = omniloop("report", worse)
    assert reported.returncode == 0, reported.stderr
    scored = omniloop("score", worse)
    assert "0 score(s) changed" in scored.stdout, scored.stderr
    compared = omniloop(
        "backends", folder / "demo", worse, "--format", "csv", "--out", tmp_path / "t"
    )
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.startswith("backend,reference,from_m,to_m,")
    assert compared.stdout == (tmp_path / "t" / "backends.csv").read_text()
    suffixes = {path.suffix for path in (tmp_path / "t").iterdir()}
    assert suffixes == {".csv", ".md", ".tex", ".svg"}


def test_weights_add_columns_and_their_absence_is_told(folder, tmp_path):
    torch = pytest.importorskip("torch", reason="feature networks need torch: omniloop[models]")

    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            return images.to(torch.float32).mean((2, 3))

    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    worse = tmp_path / "worse"
    drawn = omniloop(
        "rerender", folder / "demo", "renderer=degraded", "renderer.noise_levels_per_m=9",
        "renderer.free_m=0", "--out", worse,
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    without = omniloop("backends", folder / "demo", worse)
    assert "- FID, KID: needs --weights inception=PATH" in without.stdout.replace("\\", "")
    assert "| FID |" not in without.stdout
    chosen = ("--weights", f"inception={tmp_path / 'means.pt'}", "--set", "inception.batch=8")
    told = [omniloop("backends", folder / "demo", worse, *chosen) for _ in range(2)]
    assert told[0].returncode == 0, told[0].stderr
    assert told[0].stdout == told[1].stdout
    assert "| FID | KID |" in told[0].stdout
    assert "FVD: needs --weights i3d=PATH" in told[0].stdout.replace("\\", "")
    full = omniloop("backends", folder / "demo", worse, *chosen, "--format", "csv").stdout
    header, first, *_ = (line.split(",") for line in full.splitlines())
    found = dict(zip(header, first, strict=True))
    assert float(found["fid"]) > 0
    assert float(found["kid"]) != 0


def test_bad_input_exits_2_with_one_clear_message(folder, tmp_path):
    demo, out = folder / "demo", tmp_path / "out"
    for arguments, says in (
        (("rerender", demo, "policy=log_replay", "--out", out), "is not of the renderer"),
        (("rerender", folder / "nothing", "--out", out), "does not exist"),
        (("rerender", demo, "--out", demo), "into itself"),
        (("backends", demo), "two runs or more"),
        (("backends", demo, demo), "two runs or more"),
        (("backends", demo, tmp_path, "--bins", "a,b"), "'a,b' are no metres"),
        (("backends", demo, tmp_path, "--bins", "2,1"), "bins end at 2, 1 m"),
        (("backends", demo, tmp_path, "--weights", "fid=x"), "'fid' is no image metric"),
        (("backends", demo, tmp_path, "--weights", "i3d=x.pt"), "weights cannot be read"),
    ):
        done = omniloop(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")
        assert says in done.stderr
        assert "Traceback" not in done.stderr
