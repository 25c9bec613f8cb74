from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omniloop.core.contracts import MetricValue
from omniloop.core.errors import RunFolderError
from omniloop.core.record import RolloutRecord
from omniloop.core.scene import MapFeature, VectorMap
from omniloop.report import html
from omniloop.report.html import MOST_PICTURED, choose_pictured, write_report
from omniloop.report.page_parts import in_words, rerun_command
from omniloop.runlog.folder import rollout_dir
from omniloop.runlog.results import RolloutResult, write_result
from omniloop.runlog.run_yaml import write_run_yaml
from tests.report.builders import make_frames, make_record, make_result, make_scene, write_log

VOID = {"meta", "link", "img", "br", "hr", "wbr", "input", "rect", "line", "polyline"}


class Page(HTMLParser):
    """A page taken apart; a tag that is not closed is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style") and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def settings(scenes: list[str], seeds: list[int], **more: Any) -> dict[str, Any]:
    return {
        "config": {
            "policy": {"name": "straight_on", "horizon_s": 3.0},
            "renderer": {"name": "rasterizer", "api_key": "hunter2"},
            "run": {"name": "demo", "seeds": seeds},
        },
        "root_seed": 7,
        "scenes": dict.fromkeys(scenes, "0" * 64),
        "exclusions": [],
        **more,
    }


def add(
    run_dir: Path,
    record: RolloutRecord,
    result: RolloutResult | None = None,
    *,
    camera: bool = True,
) -> None:
    result = result or make_result(record)
    place = rollout_dir(run_dir, result.scene, result.seed)
    place.mkdir(parents=True)
    write_log(place / "log.mcap", record, make_frames(record) if camera else ())
    write_result(place / "result.json", result)


def bare(run_dir: Path, scene: str, seed: int, **changes: Any) -> None:
    """A result without a log."""
    metrics = {"incident": MetricValue("incident", 0.0), "offroad": MetricValue("offroad", 0.0)}
    place = rollout_dir(run_dir, scene, seed)
    place.mkdir(parents=True)
    result = RolloutResult(scene, seed, f"{scene}/{seed}", "completed", metrics=metrics)
    write_result(place / "result.json", replace(result, **changes))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rollouts: one runs into a car, one keeps away from it."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    folder.mkdir()
    scene = make_scene("crash")
    add(folder, make_record(scene))
    add(folder, make_record(make_scene("calm"), speed_mps=4.0))
    (rollout_dir(folder, "calm", 0) / "calm-0.mp4").write_bytes(b"not looked into")
    write_run_yaml(folder, settings(["crash", "calm"], [0]))
    return folder


@pytest.fixture(scope="module")
def page(run_dir: Path) -> Page:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    return Page(path)


def test_nothing_is_fetched_from_elsewhere(page: Page, run_dir: Path) -> None:
    links = [
        a.get(key) for _, a in page.tags for key in ("src", "href", "data", "action", "poster")
    ]
    local = [link for link in links if link is not None]
    assert local
    for link in local:
        assert re.match(r"(data:image/(webp|jpeg);base64,|#|rollouts/)", link), link[:60]
    source = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.source)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", source)
    assert [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed")] == []
    for link in local:
        if link.startswith("rollouts/"):
            assert (run_dir / link).is_file()


def test_the_page_is_small(page: Page) -> None:
    assert len(page.source) < 2_000_000 / 3  # two of the six rollouts that 2 MB must hold


def test_outcomes_stand_apart(tmp_path: Path) -> None:
    error = {"type": "PolicyError", "what": "no plan", "where": "", "remedy": "mend it"}
    bare(tmp_path, "a", 0)
    bare(tmp_path, "a", 1)
    bare(tmp_path, "b", 0, outcome="policy_failed", error=error)
    bare(
        tmp_path,
        "c",
        0,
        outcome="infrastructure_failed",
        error={**error, "what": "lost the renderer"},
    )
    text = Page(write_report(tmp_path)).text
    assert "2\ncompleted" in text
    assert "1\npolicy failed" in text
    assert "1\ninfrastructure failed" in text
    assert "lost the renderer" in text
    assert "mend it" in text


def test_each_rollout_has_a_row_and_the_means_have_their_counts(page: Page) -> None:
    rows = [a["data-v"] for a in page.all("th") if "data-v" in a]
    assert rows == ["calm/0", "crash/0"]
    assert "50 %\n9 to 91 %\n2 of 2" in page.text  # one of two rollouts with an incident


def test_incidents_are_listed_with_time_and_class(page: Page) -> None:
    assert "front collision" in page.text
    assert re.search(
        r"3\.\d\d s\n.*s\nfront collision\nyes\ncar car at 5\.0 m/s relative", page.text
    )


def test_pictures_and_charts_are_there_with_text_alternatives(page: Page) -> None:
    pictures = [p for p in page.all("img") if "src" in p]  # that of the player has none yet
    assert len(pictures) == 4 + 6  # a map and a camera picture each, and of one incident three
    assert all(p.get("alt") for p in pictures)
    charts = page.all("svg")
    assert len(charts) == 4 + 2  # two of each rollout; where the time of the mean one went
    assert all(c["role"] == "img" and c["aria-label"] for c in charts)
    assert "camera at that time" in page.text


def test_tables_have_headers_with_scopes_and_ids_are_unique(page: Page) -> None:
    heads = page.all("th")
    assert heads
    assert all(h.get("scope") in ("col", "row") for h in heads)
    ids = Counter(a["id"] for _, a in page.tags if "id" in a)
    assert max(ids.values()) == 1
    targets = {a["href"][1:] for a in page.all("a") if (a.get("href") or "").startswith("#")}  # type: ignore[index]
    assert targets <= set(ids)
    labelled = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert labelled <= set(ids)


def test_settings_timings_and_videos_are_shown_without_secrets(page: Page) -> None:
    assert "straight_on, horizon_s=3.0" in page.text
    assert "root seed\n7" in page.text
    assert "hunter2" not in page.source
    assert "policy.plan\n60\n1.20 s\n20.00 ms\n50.0 ms" in page.text
    assert "calm-0.mp4" in page.text


def test_an_undefined_score_is_a_dash_with_its_reason_here_and_below(tmp_path: Path) -> None:
    scene = replace(make_scene("nomap"), map=VectorMap())
    add(tmp_path, make_record(scene), camera=False)
    page = Page(write_report(tmp_path))
    reason = "no drivable surface: the map has no drivable areas and no lane polygons"
    dashes = page.all("abbr")
    assert [d["title"] for d in dashes] == [reason]
    assert dashes[0]["aria-label"] == f"undefined: {reason}"
    assert f"Off-road\n{reason}\nnomap/0" in page.text
    assert "\N{EN DASH}\n0 of 1" in page.text  # a mean over none is no number


def test_privileged_policies_are_marked(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0, privileged=["actors", "map"], plugins={"policy": "oracle"})
    bare(tmp_path, "b", 0)
    page = Page(write_report(tmp_path))
    assert "oracle sees more than sensors: actors, map." in page.text
    badges = [a for a in page.all("span") if a.get("class") == "badge privileged"]
    assert len(badges) == 3  # the note, the row and the card of a/0


def test_names_and_texts_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'.replace("/", "\N{DIVISION SLASH}")
    run = tmp_path / '"><img src=x onerror=alert(1)>'
    run.mkdir()
    notice = "<b onmouseover=alert(2)>&amp;</b>"
    error = {"type": "PolicyError", "what": "<svg/onload=alert(3)>", "where": "'\"", "remedy": ""}
    metrics = {
        "incident": MetricValue("incident", None, "<i>reason</i>"),
        "<u>own": MetricValue("<u>own", 1.5),
    }
    bare(run, evil, 0, outcome="policy_failed", error=error, notices=[notice], metrics=metrics)
    write_run_yaml(
        run, settings([evil], [0], exclusions=[{"scene": "<em>x</em>", "reason": "</table><p>"}])
    )
    page = Page(write_report(run))
    assert sorted(a.get("type") or "" for a in page.all("script")) == ["", "", "application/json"]
    tags = {tag for tag, _ in page.tags}
    assert [a for a in page.all("img") if "src" in a] == []
    assert not tags & {"b onmouseover", "em", "u", "svg"}
    assert not [a for _, a in page.tags if any(key.startswith("on") for key in a)]
    for text in (evil, notice, "<svg/onload=alert(3)>", "<u>own", "<em>x</em>", "</table><p>"):
        assert text in page.text, text
    assert page.all("abbr")[0]["title"] == "<i>reason</i>"


def test_exclusions_missing_rollouts_and_warnings_are_named(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0, throttled={"declared_hz": 10.0, "actual_hz": 3.75}, attempts=2)
    rollout_dir(tmp_path, "a", 2).mkdir(parents=True)
    (rollout_dir(tmp_path, "a", 2) / "result.json").write_text("{")
    write_run_yaml(
        tmp_path,
        settings(["a"], [0, 1, 2], exclusions=[{"scene": "short", "reason": "lasts 1.0 s"}]),
    )
    text = Page(write_report(tmp_path)).text
    assert "short\nlasts 1.0 s" in text
    assert "2 planned rollouts without a result: a/1, a/2" in text
    assert "declares 10 Hz and decided at 3.75 Hz" in text
    assert "a/0: took 2 attempts" in text
    assert re.search(r"result\.json is ignored: not JSON", text)


def test_the_key_of_the_map_names_features_where_a_player_shows_some(
    page: Page, tmp_path: Path
) -> None:
    scene = make_scene("poles")
    pole = MapFeature("p", "pole", np.array([[5.0, -6.0, 0.0]]))
    add(tmp_path, make_record(replace(scene, map=replace(scene.map, features=(pole,)))), camera=False)  # fmt: skip
    assert "pole" in Page(write_report(tmp_path)).texts
    assert "pole" not in page.texts


def test_a_log_that_cannot_be_read_costs_the_pictures_and_nothing_else(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0)
    (rollout_dir(tmp_path, "a", 0) / "log.mcap").write_bytes(b"nothing")
    page = Page(write_report(tmp_path))
    assert (
        page.text.count("no pictures: the log is no MCAP file") == 2
    )  # on its card and as a warning
    assert [p for p in page.all("img") if "src" in p] == []


def test_a_rollout_that_failed_shows_where_it_ended(tmp_path: Path) -> None:
    record = make_record(make_scene(seconds=4.0))
    cut = record.ego.times_us <= record.schedule.handover_us + 1_500_000
    ego = replace(
        record.ego, times_us=record.ego.times_us[cut], local_to_rig=record.ego.local_to_rig[cut],
        dynamics=record.ego.dynamics[cut],
    )  # fmt: skip
    actors = record.scene.recorded_actors(ego.times_us)
    decisions = [d for d in record.decisions if d.time_us <= ego.times_us[-1]]
    ended = replace(record, ego=ego, ego_estimated=ego, actors=actors, decisions=decisions)
    error = {"type": "PolicyError", "what": "ValueError: boom", "where": "authored/0", "remedy": ""}
    add(
        tmp_path, ended, make_result(record, "policy_failed", error=error, metrics={}), camera=False
    )
    text = Page(write_report(tmp_path)).text
    assert "+1.5 s, where it ended" in text
    assert "ValueError: boom" in text


def test_many_rollouts_get_rows_but_pictures_only_the_first_and_those_with_trouble(
    tmp_path: Path,
) -> None:
    for k in range(60):
        failed = k in (40, 55)
        bare(tmp_path, f"s{k:03d}", 0, outcome="policy_failed" if failed else "completed")
    page = Page(write_report(tmp_path))
    assert len([a for a in page.all("th") if "data-v" in a]) == 60
    assert f"Pictures are of 26 of 60 rollouts: the first {MOST_PICTURED}" in page.text
    assert len(page.all("article")) == 26


def test_all_rollouts_of_a_run_that_is_not_large_get_pictures(tmp_path: Path) -> None:
    for k in range(2 * MOST_PICTURED):
        bare(tmp_path, f"s{k:03d}", 0, outcome="completed")
    page = Page(write_report(tmp_path))
    assert len(page.all("article")) == 2 * MOST_PICTURED
    assert "Pictures are of" not in page.text


def test_pictures_are_bounded_whatever_happens() -> None:
    def result(k: int, outcome: str) -> RolloutResult:
        return RolloutResult("s", k, f"s/{k}", outcome)

    none = [result(k, "completed") for k in range(1000)]
    assert choose_pictured(none) == set(range(24))
    late = none[:900] + [result(k, "policy_failed") for k in range(900, 1000)]
    assert choose_pictured(late) == {*range(24), *range(900, 924)}
    assert choose_pictured(none[:3]) == {0, 1, 2}


def test_a_thousand_rollouts_stay_a_page_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a thousand of them take a disk long
    for k in range(1000):
        bare(tmp_path, f"s{k:04d}", 0)
    path = write_report(tmp_path)
    assert path.stat().st_size < 2_000_000
    assert len([a for a in Page(path).all("th") if "data-v" in a]) == 1000


def test_a_score_that_a_plugin_adds_has_a_column_of_its_own(tmp_path: Path) -> None:
    bare(tmp_path, "a", 0, metrics={"comfort": MetricValue("comfort", 0.25)})
    assert "comfort" in Page(write_report(tmp_path)).text


def test_a_run_without_results_is_a_page_that_says_so(tmp_path: Path) -> None:
    write_run_yaml(tmp_path, settings(["a"], [0]))
    text = Page(write_report(tmp_path)).text
    assert "No rollout has a result." in text
    assert "1 planned rollout without a result: a/0" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        write_report(tmp_path)
    with pytest.raises(RunFolderError, match="does not exist"):
        write_report(tmp_path / "none")


def test_writing_again_gives_the_same_page(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_edits_are_listed_by_scene_and_cannot_become_markup(tmp_path: Path) -> None:
    bare(tmp_path, "s", 0)
    edited = {"s": ["hard_brake: 'lead' brakes", "prompt: <b>rain</b>"], "plain": []}
    write_run_yaml(tmp_path, settings(["s", "plain"], [0], edits=edited))
    page = Page(write_report(tmp_path))
    assert "Edited scenes" in page.text
    assert "hard_brake: 'lead' brakes" in page.text
    assert "prompt: <b>rain</b>" in page.text
    (tmp_path / "run.yaml").unlink()
    write_run_yaml(tmp_path, settings(["s", "plain"], [0]))
    assert "Edited scenes" not in Page(write_report(tmp_path)).text


def test_what_services_told_is_put_in_words() -> None:
    told = {
        "ego": {"SUCCESSFUL_UPDATE": 3}, "no_lane": [str(k) for k in range(10)], "refused": [],
        "imperfection": {"image": 1}, "solve_failures": 0,
    }  # fmt: skip
    assert in_words(told) == (
        "ego (SUCCESSFUL UPDATE 3); no lane 0, 1, 2, 3, 4, 5, 6, 7 and 2 more; solve failures 0"
    )


def test_a_table_too_large_for_a_page_is_cut_and_says_where_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {f"own_{k}": MetricValue(f"own_{k}", 0.5) for k in range(20)}
    for k in range(6):
        bare(tmp_path, f"s{k}", 0, metrics=metrics)
    monkeypatch.setattr(html, "MOST_ROWS", 4)
    monkeypatch.setattr(html, "_MOST_CELLS", 60)
    page = Page(write_report(tmp_path))
    assert len([a for a in page.all("th") if "data-v" in a]) == 4
    assert (
        len([a for a in page.all("button") if a.get("type") == "button"]) == 2 + 10 + 1 + 3
    )  # 3: the player
    assert "10 more scores are in scores.csv" in page.text
    assert "2 more rollouts are in scores.csv" in page.text


def test_only_the_page_s_own_scripts_may_run(page: Page) -> None:
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy is not None
    allowed = re.search("script-src ([^;]*)", policy)
    assert allowed is not None
    assert "unsafe" not in allowed[1]
    scripts = re.findall("<script>(.*?)</script>", page.source, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed[1]


def test_videos_are_linked_and_their_absence_is_told(page: Page, tmp_path: Path) -> None:
    assert page.texts.count("no video") == 1  # of two
    assert "There are no videos" not in page.text
    bare(tmp_path, "a", 0)
    text = Page(write_report(tmp_path)).text
    assert "There are no videos: run.video=true makes them." in text


def test_the_command_to_run_it_again_is_quoted_and_makes_another_run(tmp_path: Path) -> None:
    words = ["omniloop", "run", "scenes.path=/a (1)/it's", "metrics.collision=false"]
    found = rerun_command({"command": words}, "a b")
    assert shlex.split(found) == [*words, "run.name=a b_2"]
    assert rerun_command({}, "x") == ""
    bare(tmp_path, "a", 0)
    write_run_yaml(tmp_path, settings(["a"], [0], command=words))
    page = Page(write_report(tmp_path))
    assert rerun_command({"command": words}, tmp_path.name) in page.text


def test_a_run_that_was_drawn_again_is_drawn_again_by_its_command() -> None:
    words = ["omniloop", "rerender", "runs/demo", "renderer=degraded"]
    document = {"command": words, "rerendered": {"run": "runs/demo"}, "config": {"run": {"dir": "runs"}}}  # fmt: skip
    assert shlex.split(rerun_command(document, "x")) == [*words, "--out", "runs/x_2"]
