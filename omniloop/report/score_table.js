// The table of rollouts: it sorts by its headings and filters by text, outcome and incident.
(function () {
"use strict";

var table = document.getElementById("score-table");
if (!table) return;
var body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);

heads.forEach(function (head, column) {
  head.querySelector("button").addEventListener("click", function () {
    var down = head.getAttribute("aria-sort") === "ascending";
    var rows = Array.from(body.rows).map(function (row) { return [row.cells[column].dataset.v, row]; });
    rows.sort(function (a, b) {
      if (a[0] === "" || b[0] === "") return (a[0] === "") - (b[0] === "");
      var x = Number(a[0]), y = Number(b[0]);
      var order = isNaN(x) || isNaN(y) ? a[0].localeCompare(b[0], undefined, { numeric: true }) : x - y;
      return down ? -order : order;
    });
    heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.forEach(function (pair) { body.appendChild(pair[1]); });
  });
});

var text = document.getElementById("filter-text"), outcome = document.getElementById("filter-outcome");
var incident = document.getElementById("filter-incident"), told = document.getElementById("filter-told");

function filter() {
  var words = text.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0, all = body.rows.length;
  Array.from(body.rows).forEach(function (row) {
    var fits = (!outcome.value || row.dataset.outcome === outcome.value)
      && (!incident.value || row.dataset.incident.split(" ").indexOf(incident.value) >= 0)
      && words.every(function (word) { return row.dataset.text.indexOf(word) >= 0; });
    row.hidden = !fits;
    shown += fits;
  });
  told.textContent = shown === all ? all + " rollouts" : shown + " of " + all + " rollouts; means are over all";
}

[text, outcome, incident].forEach(function (control) { control.addEventListener("input", filter); });
document.getElementById("filters").addEventListener("reset", function () { setTimeout(filter, 0); });
filter();
})();
