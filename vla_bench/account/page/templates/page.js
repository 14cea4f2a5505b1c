// Without this script the page holds the same words and numbers; with it, tables sort and filter and the
// listing of episodes becomes one table. Texts only ever enter as text.
"use strict";

const ROWS = 50; // of the table of episodes at a time
const KINDS = ["error", "mixed", "failure", "success"];
const STATUS = { s: "success", f: "failure", e: "error" };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// A name with places where it may break.
function soft(name) {
  return name.split(/(?<=[_/])/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
}

// ── order ──────────────────────────────────────────────────────────────────────────────────────────────

// The number that a cell begins with: a share as its value, an interval as its low end; NaN for words.
function numberIn(text) {
  const plain = text.trim().replace(/\u2212/g, "-");
  const share = /^(\d+(?:\.\d+)?)\/(\d+)$/.exec(plain);
  if (share) return Number(share[1]) / Number(share[2]);
  const found = /^[<>≤≥~±]?\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)/i.exec(plain);
  return found ? Number(found[1]) : NaN;
}

const words = new Intl.Collator("en", { numeric: true });

// Numbers before what is undefined, whichever way they are sorted.
function compareBy(read, numeric, sign) {
  return (first, second) => {
    const a = read(first), b = read(second);
    if (!numeric) return sign * words.compare(a, b);
    const x = numberIn(a), y = numberIn(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
}

// A header cell's text becomes a button that sorts; numbers start with the greatest.
function sortable(cell, numeric, sort) {
  const button = make("button", { type: "button", class: "sort" }, ...cell.childNodes);
  button.addEventListener("click", () => {
    const before = cell.getAttribute("aria-sort");
    const next = before === "ascending" ? "descending" : before === "descending" ? "ascending" : numeric ? "descending" : "ascending";
    for (const other of cell.closest("thead").querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", next);
    sort(next === "ascending" ? 1 : -1);
  });
  cell.replaceChildren(button);
}

// ── tables ─────────────────────────────────────────────────────────────────────────────────────────────

function liven(table) {
  const body = table.tBodies[0], rows = [...body.rows];
  for (const { cells: [name] } of rows) if (name.firstChild) name.firstChild.replaceWith(...soft(name.firstChild.data));
  if (rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    if (cell.hasAttribute("data-fixed")) return;
    const read = (row) => row.cells[column].textContent;
    sortable(cell, cell.classList.contains("n"), (sign) => {
      body.append(...[...body.rows].sort(compareBy(read, cell.classList.contains("n"), sign)));
    });
  });
  if (rows.length < 8) return;
  const id = `filter-${table.caption.id}`;
  const input = make("input", { type: "search", id, autocomplete: "off", spellcheck: "false" });
  const said = make("span", { class: "count", "aria-live": "polite" });
  const texts = rows.map((row) => row.textContent.toLowerCase());
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !wanted.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    said.textContent = wanted.length ? `${shown} of ${rows.length} rows` : "";
  });
  const label = make("label", { for: id }, "Filter rows", make("span", { class: "unseen" }, ` of ${table.caption.textContent}`));
  table.closest(".scroll").before(make("div", { class: "filter" }, label, input, said));
}

// ── episodes ───────────────────────────────────────────────────────────────────────────────────────────

// The rows of the listing as values, in its order.
function readListing(listing, arms) {
  const rows = [];
  for (const group of listing.querySelectorAll("details.group")) {
    const usual = group.querySelector(".told").textContent;
    const kind = KINDS.indexOf(group.closest("[data-kind]").dataset.kind);
    for (const { cells } of group.querySelector("tbody").rows) {
      const told = cells[1].querySelector("q");
      const outcomes = arms.map((_, i) => {
        const cell = cells[2 + 3 * i];
        if (!cell.className) return null;
        const [error, video] = [cell.querySelector('a[href*="#error-"]'), cell.querySelector("a:not([href*='#error-'])")];
        const lost = cell.querySelector("i");
        const text = error ? error.textContent : cell.firstChild.data.trim();
        return {
          text, status: STATUS[cell.className], error: error && error.getAttribute("href"), lost: Boolean(lost),
          video: video && video.getAttribute("href"), steps: cells[3 + 3 * i].textContent, hz: cells[4 + 3 * i].textContent,
        };
      });
      const row = {
        kind, order: rows.length, start: cells[0].textContent.trim(), task: group.dataset.task,
        variation: cells[1].firstChild && cells[1].firstChild.nodeType === Node.TEXT_NODE ? cells[1].firstChild.data.trim() : "",
        instruction: told ? told.textContent : usual, outcomes, open: false,
      };
      row.search = [row.task, row.variation, row.start, row.instruction, ...outcomes.map((o) => (o ? o.text : "not run"))].join(" ").toLowerCase();
      rows.push(row);
    }
  }
  return rows;
}

function select(id, label, options) {
  const box = make("select", { id }, ...options.map(([value, text]) => make("option", { value }, text)));
  return [box, make("div", {}, make("label", { for: id }, label), box)];
}

function matches(row, wanted) {
  if (wanted.task && row.task !== wanted.task) return false;
  if (wanted.variation && row.variation !== wanted.variation.slice(1)) return false;
  if (!wanted.words.every((word) => row.search.includes(word))) return false;
  const own = (wanted.arm === "" ? row.outcomes : [row.outcomes[wanted.arm]]).filter(Boolean);
  if (wanted.ending === "differ") return row.kind === 1 || new Set(row.outcomes.filter(Boolean).map((o) => o.status)).size > 1;
  if (wanted.ending === "video") return own.some((outcome) => outcome.video);
  if (wanted.ending) return own.some((outcome) => outcome.status === wanted.ending || outcome.text === wanted.ending);
  return own.length > 0;
}

function panel(row, arm, outcome) {
  const article = make("article", { class: outcome ? outcome.status[0] : false }, make("h4", {}, arm));
  if (!outcome) {
    article.append(make("p", {}, "not run"));
    return article;
  }
  const ending = outcome.error ? make("a", { href: outcome.error }, outcome.text) : outcome.text;
  const pace = outcome.hz === "-" ? "" : ` · ${outcome.hz} policy Hz`;
  article.append(make("p", {}, make("b", { class: outcome.status[0] }, ending)), make("p", { class: "count" }, `${outcome.steps} steps${pace}`));
  if (outcome.video) {
    article.append(make("video", {
      src: outcome.video, controls: true, preload: "metadata", playsinline: true,
      "aria-label": `Video: ${arm}, ${row.task}${row.variation ? ` with ${row.variation}` : ""}, ${row.start}, ${outcome.text}`,
    }));
  } else article.append(make("p", { class: "none" }, outcome.lost ? "The video is missing" : "No video"));
  return article;
}

function sideBySide(row, arms, columns) {
  const pair = make("div", { class: "pair" }, ...arms.map((arm, i) => panel(row, arm, row.outcomes[i])));
  const videos = [...pair.querySelectorAll("video")];
  const play = videos.length > 1 && make("button", { type: "button", class: "plain", on: { click: () => {
    for (const video of videos) {
      video.currentTime = 0;
      video.play();
    }
  } } }, "Play all from the start");
  return make("tr", { class: "side" }, make("td", { colspan: columns }, make("div", {}, `“${row.instruction}” `, play || null), pair));
}

function browse(listing) {
  const arms = JSON.parse(listing.dataset.arms);
  const rows = readListing(listing, arms);
  if (!rows.length) return;
  let found = rows, page = 0, order = (a, b) => a.order - b.order;

  const unique = (values) => [...new Set(values)].sort(words.compare);
  const [task, taskBox] = select("by-task", "Task", [["", "all tasks"], ...unique(rows.map((row) => row.task)).map((t) => [t, t])]);
  const [variation, variationBox] = select("by-variation", "Variation", [["", "all"], ...unique(rows.map((row) => row.variation)).map((v) => ["=" + v, v || "unvaried"])]);
  const [arm, armBox] = select("by-arm", "Arm", [["", "any arm"], ...arms.map((label, i) => [String(i), label])]);
  const endings = unique(rows.flatMap((row) => row.outcomes.filter(Boolean).map((o) => o.text))).filter((text) => text !== "success");
  const [ending, endingBox] = select("by-ending", "Outcome", [
    ["", "all"], ["error", "error"], ["failure", "failure"], ["success", "success"],
    ...(arms.length > 1 ? [["differ", "arms ended differently"]] : []), ...endings.map((text) => [text, text]), ["video", "has a video"],
  ]);
  const text = make("input", { type: "search", id: "by-text", autocomplete: "off", spellcheck: "false" });
  const textBox = make("div", {}, make("label", { for: "by-text" }, "Words"), text);
  const reset = make("button", { type: "button", class: "plain" }, "Show all");
  const controls = make("div", { class: "controls", role: "search", "aria-label": "Filter episodes" }, textBox, taskBox, variationBox, armBox, endingBox, reset);
  if (arms.length < 2) armBox.hidden = true;
  if (rows.every((row) => row.variation === rows[0].variation)) variationBox.hidden = true;

  const head = make("thead");
  const upper = make("tr"), lower = make("tr");
  head.append(upper, lower);
  const heading = (label, numeric, read, extra = {}) => {
    const cell = make("th", { scope: "col", ...extra }, label);
    sortable(cell, numeric, (sign) => {
      const compare = compareBy(read, numeric, sign);
      order = (a, b) => compare(a, b) || a.order - b.order;
      show(0);
    });
    return cell;
  };
  upper.append(heading("Start", false, (row) => row.start, { rowspan: 2 }), heading("Task", false, (row) => row.task, { rowspan: 2 }));
  if (!variationBox.hidden) upper.append(heading("Variation", false, (row) => row.variation, { rowspan: 2 }));
  arms.forEach((label, i) => {
    const of = (name) => (row) => (row.outcomes[i] ? row.outcomes[i][name] : "");
    const named = (short) => [short, label];
    upper.append(make("th", { scope: "colgroup", colspan: 3 }, label));
    for (const [short, name, numeric] of [["Outcome", "text", false], ["Steps", "steps", true], ["Policy Hz", "hz", true]]) {
      const cell = heading(short, numeric, of(name), { class: numeric ? "n" : "first" });
      if (arms.length > 1) cell.firstChild.append(make("span", { class: "unseen" }, ` of ${named(short)[1]}`));
      lower.append(cell);
    }
  });
  const columns = upper.cells.length - arms.length + 3 * arms.length;
  const body = make("tbody");
  const table = make("table", { class: "rows" }, make("caption", { class: "unseen" }, "Episodes, a row for each start"), head, body);
  const said = make("span", { "aria-live": "polite" });
  const back = make("button", { type: "button", class: "plain" }, "Previous");
  const next = make("button", { type: "button", class: "plain" }, "Next");
  const pager = make("nav", { class: "pager", "aria-label": "Rows of episodes" }, said, back, next);

  function line(row) {
    const toggle = make("button", { type: "button", class: "open", "aria-expanded": "false" }, row.start,
      make("span", { class: "unseen" }, ` of ${row.task}${row.variation ? ` with ${row.variation}` : ""}: arms side by side`));
    const tr = make("tr", {}, make("th", { scope: "row" }, toggle), make("td", { class: "task" }, ...soft(row.task)));
    if (!variationBox.hidden) tr.append(make("td", {}, row.variation || "–"));
    for (const outcome of row.outcomes) {
      if (!outcome) tr.append(make("td", { class: "first" }, "not run"), make("td"), make("td"));
      else {
        tr.append(
          make("td", { class: `first ${outcome.status[0]}` }, outcome.text, outcome.video ? make("span", { title: "has a video" }, " ▷") : null),
          make("td", { class: "n" }, outcome.steps), make("td", { class: "n" }, outcome.hz),
        );
      }
    }
    toggle.addEventListener("click", () => {
      const open = toggle.getAttribute("aria-expanded") === "true";
      toggle.setAttribute("aria-expanded", String(!open));
      if (open) tr.nextElementSibling.remove();
      else tr.after(sideBySide(row, arms, columns));
    });
    return tr;
  }

  function show(to) {
    found.sort(order);
    const last = Math.max(0, Math.ceil(found.length / ROWS) - 1);
    page = Math.min(Math.max(to, 0), last);
    const from = page * ROWS, some = found.slice(from, from + ROWS);
    body.replaceChildren(...some.map(line));
    back.disabled = page === 0;
    next.disabled = page === last;
    const all = found.length === rows.length ? `${rows.length} rows` : `${found.length} of ${rows.length} rows`;
    said.textContent = found.length > ROWS ? `${all}; ${from + 1}–${from + some.length} shown` : found.length ? all : "No row is left; show all, or ask for less";
  }

  function filter() {
    const wanted = {
      task: task.value, variation: variation.value, arm: arm.value, ending: ending.value,
      words: text.value.toLowerCase().split(/\s+/).filter(Boolean),
    };
    found = rows.filter((row) => matches(row, wanted));
    show(0);
  }

  for (const control of [task, variation, arm, ending]) control.addEventListener("change", filter);
  text.addEventListener("input", filter);
  reset.addEventListener("click", () => {
    for (const control of [task, variation, arm, ending, text]) control.value = "";
    filter();
  });
  back.addEventListener("click", () => show(page - 1));
  next.addEventListener("click", () => show(page + 1));
  listing.replaceWith(controls, pager, make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Episodes" }, table));
  filter();
}

for (const table of document.querySelectorAll("table.data")) liven(table);
const listing = document.getElementById("listing");
if (listing) browse(listing);
