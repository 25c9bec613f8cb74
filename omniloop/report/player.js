// The bird's-eye players of a run's page. Data: omniloop/report/player_data.py.
(function () {
"use strict";

var ZOOMS_M = [25, 40, 60, 90, 130];
var palettes = JSON.parse(document.getElementById("palettes").textContent);
var dark = matchMedia("(prefers-color-scheme: dark)");
var waiting = {};
var players = {};

function summed(steps, unit) {
  var out = new Float64Array(steps.length), at = 0;
  for (var k = 0; k < steps.length; k++) { at += steps[k]; out[k] = at * unit; }
  return out;
}

function points(packed, unit, from) {
  var out = [], x = 0, y = 0;
  for (var k = from || 0; k < packed.length; k += 2) {
    x += packed[k]; y += packed[k + 1];
    out.push([x * unit, y * unit]);
  }
  return out;
}

function track(run, unit) {
  return { first: run[0], count: run[1], x: summed(run[2], unit), y: summed(run[3], unit), yaw: summed(run[4], 0.01) };
}

function sampled(values, at) {
  var last = values.length - 1, lo = Math.min(Math.floor(at), last), hi = Math.min(lo + 1, last);
  return values[lo] + (values[hi] - values[lo]) * Math.min(at - lo, 1);
}

function poseAt(run, sample) {
  var at = sample - run.first;
  if (at < 0 || at > run.count - 1) return null;
  return { x: sampled(run.x, at), y: sampled(run.y, at), yaw: sampled(run.yaw, at) };
}

function corners(pose, length, width) {
  var c = Math.cos(pose.yaw), s = Math.sin(pose.yaw), l = length / 2, w = width / 2;
  return [[l, w], [l, -w], [-l, -w], [-l, w]].map(function (p) {
    return [pose.x + c * p[0] - s * p[1], pose.y + s * p[0] + c * p[1]];
  });
}

// The separating axis theorem: boxes are apart if a side of one tells them apart.
function meet(a, b) {
  return [a, b].every(function (box) {
    return [0, 1].every(function (side) {
      var nx = box[side + 1][0] - box[side][0], ny = box[side + 1][1] - box[side][1];
      function along(p) { return nx * p[0] + ny * p[1]; }
      var one = a.map(along), other = b.map(along);
      return Math.max.apply(null, one) >= Math.min.apply(null, other) && Math.max.apply(null, other) >= Math.min.apply(null, one);
    });
  });
}

function path(lines, closed) {
  var out = new Path2D();
  lines.forEach(function (line) {
    line.forEach(function (p, k) { if (k) out.lineTo(p[0], p[1]); else out.moveTo(p[0], p[1]); });
    if (closed) out.closePath();
  });
  return out;
}

function dots(list, radius) {
  var out = new Path2D();
  list.forEach(function (line) { out.moveTo(line[0][0] + radius, line[0][1]); out.arc(line[0][0], line[0][1], radius, 0, 7); });
  return out;
}

function prepare(raw) {
  var unit = raw.unit_m, map = raw.map;
  function lines(list) { return path(list.map(function (line) { return points(line, unit); })); }
  function shapes(list) {
    return path([].concat.apply([], list).map(function (ring) { return points(ring, unit); }), true);
  }
  var paint = {};
  map.paint.forEach(function (entry) {
    var key = entry[0] + "|" + entry[1].join(" ");
    (paint[key] = paint[key] || []).push(entry[2]);
  });
  var features = (map.features || []).map(function (one) {
    if (one.draw === "fill") return { color: one.color, path: shapes(one.shapes) };
    if (one.draw === "line") return { color: one.color, path: lines(one.shapes), metres: one.m };
    return { color: one.color, path: dots(one.shapes.map(function (line) { return points(line, unit); }), one.m) };
  });
  var ego = track(raw.ego.run, unit);
  return {
    raw: raw, ego: ego, speed: summed(raw.ego.speed, 0.1),
    actors: raw.actors.map(function (actor) {
      return { info: actor, runs: actor.runs.map(function (run) { return track(run, unit); }) };
    }),
    plans: raw.plans.map(function (plan) { return points(plan, unit, 3); }),
    routes: raw.routes.map(function (route) { return path([points(route, unit)]); }),
    recorded: path([points(raw.recorded, unit)]),
    lights: raw.lights.map(function (light) { return { at: points(light, unit)[0], ms: light[2], states: light[3] }; }),
    features: features, areas: shapes(map.areas), lanes: shapes(map.lanes), crosswalks: shapes(map.crosswalks),
    bare: lines(map.bare), faint: lines(map.faint), edges: lines(map.edges), stops: lines(map.stops),
    paint: Object.keys(paint).map(function (key) {
      var parts = key.split("|");
      return { color: parts[0], dash: parts[1] ? parts[1].split(" ").map(Number) : [], path: lines(paint[key]) };
    }),
    end_ms: raw.start_ms + (raw.samples - 1) * raw.step_ms
  };
}

function rgb(color) { return "rgb(" + color.join(" ") + ")"; }
function mixed(a, b, share) { return a.map(function (v, k) { return Math.round(v + (b[k] - v) * share); }); }

function Player(root, raw) {
  var self = this;
  this.root = root;
  this.data = prepare(raw);
  this.ms = raw.start_ms;
  this.playing = false;
  this.zoom = 2;
  this.canvas = root.querySelector("canvas");
  this.play = root.querySelector(".play");
  this.scrub = root.querySelector(".scrub");
  this.rate = root.querySelector(".rate");
  this.told = root.querySelector(".told");
  this.image = root.querySelector(".film img");
  this.filmText = root.querySelector(".film figcaption");
  this.scrub.min = raw.start_ms;
  this.scrub.max = this.data.end_ms;
  this.shown = {};
  root.querySelectorAll("[data-layer]").forEach(function (box) {
    self.shown[box.dataset.layer] = box.checked;
    box.addEventListener("change", function () { self.shown[box.dataset.layer] = box.checked; self.draw(); });
  });
  this.northUp = root.querySelector(".north");
  this.northUp.addEventListener("change", function () { self.draw(); });
  this.play.addEventListener("click", function () { self.toggle(); });
  this.scrub.addEventListener("input", function () { self.seek(Number(self.scrub.value)); });
  root.querySelector(".zoom-in").addEventListener("click", function () { self.zoomBy(-1); });
  root.querySelector(".zoom-out").addEventListener("click", function () { self.zoomBy(1); });
  this.canvas.addEventListener("keydown", function (event) { self.key(event); });
  this.canvas.addEventListener("click", function () { self.toggle(); });
  this.marks();
  new ResizeObserver(function () { self.draw(); }).observe(this.canvas);
  dark.addEventListener("change", function () { self.draw(); });
  this.seek(raw.start_ms);
}

Player.prototype.key = function (event) {
  var steps = { ArrowLeft: -100, ArrowRight: 100, PageUp: -1000, PageDown: 1000 };
  if (event.key === " " || event.key === "Enter") this.toggle();
  else if (event.key in steps) this.seek(this.ms + steps[event.key]);
  else if (event.key === "Home") this.seek(this.data.raw.start_ms);
  else if (event.key === "End") this.seek(this.data.end_ms);
  else if (event.key === "+") this.zoomBy(-1);
  else if (event.key === "-") this.zoomBy(1);
  else return;
  event.preventDefault();
};

Player.prototype.zoomBy = function (step) {
  this.zoom = Math.max(0, Math.min(ZOOMS_M.length - 1, this.zoom + step));
  this.draw();
};

// What happened when, under the slider: warm-up and incidents.
Player.prototype.marks = function () {
  var raw = this.data.raw, span = Math.max(this.data.end_ms - raw.start_ms, 1);
  var bar = this.root.querySelector(".marks"), end = this.data.end_ms;
  function add(kind, from, to, title) {
    var mark = document.createElement("i");
    mark.className = kind;
    mark.title = title;
    mark.style.left = 100 * (from - raw.start_ms) / span + "%";
    mark.style.width = "max(3px, " + 100 * (Math.min(to, end) - from) / span + "%)";
    bar.appendChild(mark);
  }
  if (raw.start_ms < 0) add("warmup", raw.start_ms, 0, "warm-up");
  raw.incidents.forEach(function (incident) { add("incident", incident[0], incident[1], incident[2]); });
};

Player.prototype.seek = function (ms) {
  this.ms = Math.max(this.data.raw.start_ms, Math.min(this.data.end_ms, ms));
  this.draw();
};

Player.prototype.toggle = function (on) {
  var self = this, before = null;
  this.playing = on === undefined ? !this.playing : on;
  this.play.textContent = this.playing ? "Pause" : "Play";
  this.play.dataset.on = this.playing ? "1" : "0";
  if (!this.playing) return;
  if (this.ms >= this.data.end_ms) this.ms = this.data.raw.start_ms;
  var turn = this.turn = {};
  requestAnimationFrame(function step(now) {
    if (!self.playing || self.turn !== turn || self.root.hidden) return;
    // A page that was in the background goes on where it was.
    if (before !== null) self.seek(self.ms + Math.min(now - before, 200) * Number(self.rate.value));
    before = now;
    if (self.ms >= self.data.end_ms) self.toggle(false);
    else requestAnimationFrame(step);
  });
};

Player.prototype.tell = function (sample) {
  var raw = this.data.raw, ms = this.ms, seconds = ms / 1000;
  var now = raw.incidents.filter(function (i) { return ms >= i[0] && ms <= Math.max(i[1], i[0] + 1000); });
  var text = (seconds < 0 ? "\u2212" : "+") + Math.abs(seconds).toFixed(1) + " s";
  var speed = sampled(this.data.speed, sample).toFixed(1) + " m/s";
  var state = now.length ? now[now.length - 1][2] : ms < 0 ? "warm-up" : "closed loop";
  this.told.textContent = text + "  \u00b7  " + speed + "  \u00b7  " + state;
  this.told.classList.toggle("bad", now.length > 0);
  this.scrub.value = ms;
  this.scrub.setAttribute("aria-valuetext", text + ", " + state);
  var film = raw.camera, at = -1;
  for (var k = 0; k < film.ms.length && (film.ms[k] <= ms || k === 0); k++) at = k;
  if (at >= 0 && at !== this.filmAt) {
    this.filmAt = at;
    this.image.src = film.jpg[at];
    this.image.alt = "Camera picture at " + (film.ms[at] / 1000).toFixed(1) + " s";
    this.filmText.textContent = film.id + ", " + (film.ms[at] / 1000).toFixed(1) + " s";
  }
  this.image.hidden = at < 0;
  if (at < 0) this.filmText.textContent = film.id ? "Camera pictures were left out to keep the page small." : "Nothing was rendered.";
};

Player.prototype.draw = function () {
  var data = this.data, raw = data.raw, canvas = this.canvas, self = this;
  var sample = Math.max(0, Math.min(raw.samples - 1, (this.ms - raw.start_ms) / raw.step_ms));
  this.tell(sample);
  var ratio = window.devicePixelRatio || 1;
  var width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  var p = dark.matches ? palettes.dark : palettes.light;
  var g = canvas.getContext("2d");
  var ego = poseAt(data.ego, sample), k = height / ZOOMS_M[this.zoom], px = ratio / k;
  var turn = this.northUp.checked ? Math.PI / 2 : ego.yaw;
  var a = k * Math.sin(turn), b = -k * Math.cos(turn);
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.fillStyle = rgb(p.background);
  g.fillRect(0, 0, width, height);
  g.setTransform(a, b, b, -a, width / 2 - a * ego.x - b * ego.y, height * (this.northUp.checked ? 0.5 : 0.68) - b * ego.x + a * ego.y);
  g.lineJoin = "round";
  function fill(shape, color) { g.fillStyle = rgb(color); g.fill(shape); }
  function line(shape, color, metres, pixels, dash) {
    g.strokeStyle = rgb(color);
    g.lineWidth = Math.max(metres, pixels * px);
    g.setLineDash(dash || []);
    // Dashes begin with half a gap, as in the pictures.
    g.lineDashOffset = dash && dash.length ? dash[0] + dash[1] / 2 : 0;
    g.stroke(shape);
    g.setLineDash([]);
  }
  fill(data.areas, p.drivable);
  line(data.bare, p.lane, 3.5, 1);
  fill(data.lanes, p.lane);
  line(data.lanes, p.lane, 0, 1);
  data.features.forEach(function (one) {
    if (one.metres) line(one.path, p[one.color], one.metres, 1);
    else fill(one.path, p[one.color]);
  });
  line(data.faint, p.faint, 0.15, 1);
  fill(data.crosswalks, p.crosswalk);
  data.paint.forEach(function (paint) { line(paint.path, p[paint.color], 0.15, 1.4, paint.dash); });
  line(data.edges, p.boundary, 0.25, 1.2);
  line(data.stops, p.stop_line, 0.4, 1.5);
  if (this.shown.recorded) line(data.recorded, p.recorded, 0, 1.2);
  var force = raw.force[Math.floor(sample)];
  if (this.shown.route && force >= 0) {
    g.lineCap = "round";
    line(data.routes[force], p.route, 0.5, 3, [0, Math.max(3, 9 * px)]);
    g.lineCap = "butt";
  }
  if (this.shown.trail) {
    var trail = new Path2D(), whole = Math.floor(sample);
    for (var s = 0; s <= whole && s < data.ego.x.length; s++) trail.lineTo(data.ego.x[s], data.ego.y[s]);
    trail.lineTo(ego.x, ego.y);
    line(trail, mixed(p.ego, p.lane, 0.45), 0, 2);
  }
  if (this.shown.plan && force >= 0) this.plan(g, p, force, px);
  data.lights.forEach(function (light) {
    var at = -1;
    while (at + 1 < light.ms.length && light.ms[at + 1] <= self.ms) at++;
    if (at < 0) return;
    g.beginPath();
    g.arc(light.at[0], light.at[1], 4 * px, 0, 7);
    g.fillStyle = { red: "#f33", yellow: "#fc3", green: "#3c6", red_yellow: "#f83" }[light.states[at]] || "#788";
    g.fill();
  });
  this.boxes(g, p, ego, sample, px);
  scaleBar(g, p, k, width, height, ratio);
};

// Of the plan in force, what lies ahead of now; from near to far its colour changes.
Player.prototype.plan = function (g, p, force, px) {
  var raw = this.data.raw.plans[force], line = this.data.plans[force], step = raw[1];
  if (line.length < 2 || !step) return;
  var now = Math.max((this.ms - raw[0]) / step, 0);
  if (now >= line.length - 1) return;
  g.lineWidth = Math.max(0.6, 4 * px);
  g.lineCap = "round";
  for (var k = line.length - 2; k >= Math.floor(now); k--) {
    var share = k < now ? now - k : 0, from = line[k], to = line[k + 1];
    g.strokeStyle = rgb(raw[2] ? p.plan_dropped : mixed(p.plan_near, p.plan_far, k / (line.length - 2 || 1)));
    g.beginPath();
    g.moveTo(from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share);
    g.lineTo(to[0], to[1]);
    g.stroke();
  }
  g.lineCap = "butt";
};

Player.prototype.boxes = function (g, p, ego, sample, px) {
  var size = this.data.raw.ego.size_m, ahead = this.data.raw.ego.ahead_m;
  var centre = { x: ego.x + ahead * Math.cos(ego.yaw), y: ego.y + ahead * Math.sin(ego.yaw), yaw: ego.yaw };
  var own = corners(centre, size[0], size[1]), hit = false;
  function box(pose, length, width, color, edge) {
    var shape = path([corners(pose, length, width)], true);
    g.fillStyle = rgb(color);
    g.fill(shape);
    g.strokeStyle = rgb(edge);
    g.lineWidth = px;
    g.stroke(shape);
    var c = Math.cos(pose.yaw), s = Math.sin(pose.yaw), half = length / 2, base = half - Math.min(half * 0.7, width * 0.65);
    function at(x, y) { return [pose.x + c * x - s * y, pose.y + s * x + c * y]; }
    g.fillStyle = rgb(mixed(color, p.outline, 0.6));
    g.fill(path([[at(half * 0.86, 0), at(base, width * 0.33), at(base, -width * 0.33)]], true));
  }
  this.data.actors.forEach(function (actor) {
    var info = actor.info, pose = null;
    for (var r = 0; r < actor.runs.length && !pose; r++) pose = poseAt(actor.runs[r], sample);
    if (!pose) return;
    var touches = Math.abs(pose.x - ego.x) < 40 && Math.abs(pose.y - ego.y) < 40 && meet(own, corners(pose, info.size_m[0], info.size_m[1]));
    hit = hit || touches;
    var color = touches ? p.contact : mixed(p[info.class], p.drivable, info.static ? 0.5 : 0);
    box(pose, Math.max(info.size_m[0], 1.1), Math.max(info.size_m[1], 1.1), color, p.outline);
  });
  box(centre, size[0], size[1], p.ego, p.text);
  if (!hit) return;
  g.beginPath();
  g.arc(centre.x, centre.y, 4.2, 0, 7);
  g.strokeStyle = rgb(p.contact); g.lineWidth = 2.5 * px;
  g.stroke();
};

function scaleBar(g, p, k, width, height, ratio) {
  var wished = 90 * ratio / k, power = Math.pow(10, Math.floor(Math.log10(wished)));
  var metres = [5, 2, 1].map(function (m) { return m * power; }).filter(function (m) { return m <= wished; })[0];
  var x1 = width - 14 * ratio, x0 = x1 - metres * k, y = height - 14 * ratio;
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.strokeStyle = g.fillStyle = rgb(p.text_dim);
  g.lineWidth = 2 * ratio; g.beginPath();
  g.moveTo(x0, y - 4 * ratio); g.lineTo(x0, y); g.lineTo(x1, y); g.lineTo(x1, y - 4 * ratio);
  g.stroke();
  g.font = 11 * ratio + "px system-ui, sans-serif"; g.textAlign = "center";
  g.fillText(metres + " m", (x0 + x1) / 2, y - 6 * ratio);
}

// ------------------------------------------------------------------ opening and loading

function build(anchor, raw) {
  var card = document.getElementById(anchor);
  var root = document.getElementById("player-template").content.firstElementChild.cloneNode(true);
  root.setAttribute("aria-label", "Player of " + card.querySelector("h3").textContent);
  card.querySelector(".media").before(root);
  var charts = card.querySelector(".charts");
  if (charts) root.querySelector(".side").appendChild(charts);
  card.classList.add("open");
  players[anchor] = new Player(root, raw);
  return players[anchor];
}

function load(anchor, done) {
  var inline = document.getElementById("data-" + anchor);
  if (inline) return done(JSON.parse(inline.textContent));
  if (waiting[anchor]) return;
  var opener = document.querySelector("#" + anchor + " .opener"), script = document.createElement("script");
  waiting[anchor] = done;
  script.src = opener.dataset.src;
  script.onerror = function () {
    delete waiting[anchor];
    var note = document.createElement("p");
    note.className = "note";
    note.setAttribute("role", "alert");
    note.textContent = opener.dataset.src + " is not beside this page: keep the run's folder together.";
    opener.closest(".card").querySelector(".media").before(note);
    opener.hidden = true;
  };
  document.head.appendChild(script);
}

// Called by the scripts beside the page.
window.omniloopPlayer = function (anchor, raw) {
  var done = waiting[anchor];
  delete waiting[anchor];
  if (done) done(raw);
};

function open(anchor, ms, play) {
  function go(player) {
    if (ms !== null) player.seek(ms);
    player.toggle(play);
    player.play.focus({ preventScroll: true });
    player.root.scrollIntoView({ block: "nearest" });
  }
  if (players[anchor]) return go(players[anchor]);
  load(anchor, function (raw) { go(build(anchor, raw)); });
}

document.addEventListener("click", function (event) {
  var button = event.target.closest("[data-open]");
  if (button) open(button.dataset.open, button.dataset.ms === undefined ? null : Number(button.dataset.ms), true);
});
})();
