// The live card of a run. The kernel says which named parts are new; everything is drawn from the model's state, so
// that a page that was loaded again shows the same. Parts "head" and "body" are HTML escaped by the kernel; all else
// is set as text.

const BLOCKS = 10; // blocks of log lines that are kept
const RANKED = 70, OTHERS = 30; // rows of the table at most: with a value, without

const node = (tag, cls, parent) => {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  if (parent) parent.append(made);
  return made;
};

function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 59.95) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  const whole = Math.round(s), minutes = Math.floor(whole / 60);
  const two = (n) => String(n).padStart(2, "0");
  return minutes < 60 ? `${minutes} min ${two(whole % 60)} s` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

// ---- the parts of a study --------------------------------------------------------------------------------------------

function rowsOf(model) {
  const rows = [];
  const count = model.get("study").count;
  for (let i = 0; i < count; i++) {
    const row = model.get(`t${i}`);
    if (row) rows.push({ number: i, value: row[0], name: row[1], cells: row.slice(2) });
  }
  return rows;
}

function ranked(rows, study) {
  const sign = study.direction === "maximize" ? -1 : 1;
  const order = { running: 0, failed: 1, killed: 2 };
  const valued = rows.filter((r) => r.value !== null).sort((a, b) => sign * (a.value - b.value) || a.number - b.number);
  const others = rows.filter((r) => r.value === null)
    .sort((a, b) => (order[a.cells[1]] ?? 3) - (order[b.cells[1]] ?? 3) || b.number - a.number);
  return [...valued.slice(0, RANKED), ...others.slice(0, OTHERS)];
}

function byColumn(rows, column, down) {
  const key = (row) => {
    const text = row.cells[column], value = parseFloat(text);
    return Number.isNaN(value) ? text : value;
  };
  const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
  return rows.sort((a, b) => (down ? -1 : 1) * compare(key(a), key(b))).slice(0, RANKED + OTHERS);
}

function makeTable(parent, redraw) {
  const box = node("div", "kpt-trials", parent);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "trials");
  const table = node("table", "", box);
  const head = node("tr", "", node("thead", "", table));
  const body = node("tbody", "", table);
  const more = node("small", "", box);
  let sorted = null; // [column, down], or null for the best first
  let names = "";

  function heads(study) {
    if (names === study.heads.join()) return;
    names = study.heads.join();
    head.replaceChildren();
    study.heads.forEach((name, column) => {
      const cell = node("th", "", head);
      cell.scope = "col";
      const button = node("button", "", cell);
      button.type = "button";
      button.textContent = name;
      button.title = `Sort by ${name}; again for the other way, then for the best first`;
      button.onclick = () => {
        const mine = sorted && sorted[0] === column;
        sorted = !mine ? [column, false] : sorted[1] ? null : [column, true];
        [...head.children].forEach((th, i) => {
          if (sorted && sorted[0] === i) th.setAttribute("aria-sort", sorted[1] ? "descending" : "ascending");
          else th.removeAttribute("aria-sort");
        });
        redraw();
      };
    });
  }

  return (rows, study) => {
    heads(study);
    const shown = sorted ? byColumn([...rows], ...sorted) : ranked(rows, study);
    body.replaceChildren(...shown.map((row) => {
      const line = node("tr", row.number === study.best ? "kpt-best" : "");
      line.title = row.name;
      row.cells.forEach((text, i) => {
        const cell = node("td", i === 1 ? `kpt-${text}` : "", line);
        cell.textContent = i === 0 && row.number === study.best ? `★ ${text}` : text;
      });
      return line;
    }));
    more.textContent = rows.length > shown.length ? `${rows.length - shown.length} more trials` : "";
    box.hidden = !rows.length;
  };
}

function makeChart(parent) {
  const box = node("div", "kpt-chart", parent);
  const holder = node("div", "", box);
  const caption = node("small", "", box);
  const tip = node("div", "kpt-tip", box);
  tip.hidden = true;
  let spots = [], frame = null;

  box.onpointermove = (event) => {
    const svg = holder.firstElementChild;
    if (!svg || !spots.length) return;
    const area = svg.getBoundingClientRect(), scale = frame.width / area.width;
    const x = (event.clientX - area.left) * scale, y = (event.clientY - area.top) * scale;
    let near = null, least = 900;
    for (const spot of spots) {
      const far = (spot.x - x) ** 2 + (spot.y - y) ** 2;
      if (far < least) [near, least] = [spot, far];
    }
    tip.hidden = !near;
    if (!near) return;
    tip.textContent = near.text;
    tip.style.left = `${near.x / scale}px`;
    tip.style.top = `${near.y / scale}px`;
  };
  box.onpointerleave = () => { tip.hidden = true; };

  return (rows, study, axes) => {
    box.hidden = !axes;
    if (!axes) return;
    frame = axes;
    const right = axes.width - axes.right, floor = axes.height - axes.bottom;
    const X = (n) => axes.left + ((right - axes.left) * n) / Math.max(1, axes.last);
    const Y = (v) => floor - ((floor - axes.top) * (Math.min(Math.max(v, axes.low), axes.high) - axes.low)) / (axes.high - axes.low);
    const px = (n) => Math.round(n * 10) / 10;
    let dots = "", beyond = "", stairs = "", marks = "", best = null, end = 0;
    spots = [];
    for (const row of rows) {
      if (row.value === null) {
        if (row.cells[1] === "failed" || row.cells[1] === "killed") marks += `M${px(X(row.number))} ${floor - 6}v6`;
        continue;
      }
      const x = px(X(row.number)), y = px(Y(row.value));
      if (row.value < axes.low) beyond += `M${x - 3} ${y - 5}l3 5l3 -5`; // the axis leaves it out
      else if (row.value > axes.high) beyond += `M${x - 3} ${y + 5}l3 -5l3 5`;
      else dots += `M${x} ${y}h0`;
      spots.push({ x, y, text: `trial ${row.number} · ${study.objective} ${Number(row.value.toPrecision(5))}` });
      if (best === null || (study.direction === "maximize" ? row.value > best : row.value < best)) {
        stairs += best === null ? `M${x} ${y}` : `H${x}V${y}`;
        best = row.value;
      }
      end = x;
    }
    if (stairs) stairs += `H${end}`;
    const path = (d, colour, more) => (d ? `<path d="${d}" stroke="${colour}" ${more}/>` : "");
    const label = (x, y, text, anchor, colour = "currentColor") =>
      `<text x="${x}" y="${y}" dy=".35em" text-anchor="${anchor}" fill="${colour}" fill-opacity=".7">${text}</text>`;
    const lines = axes.y_ticks.map(([v, text]) =>
      path(`M${axes.left} ${px(Y(v))}H${right}`, "currentColor", 'stroke-opacity=".13"') + label(axes.left - 8, px(Y(v)), text, "end"));
    lines.push(...axes.x_ticks.map((n) => label(px(X(n)), floor + 15, n, "middle")));
    if (axes.goal !== null) {
      const y = px(Y(axes.goal));
      lines.push(path(`M${axes.left} ${y}H${right}`, "#d97706", 'stroke-dasharray="4 4"'), label(right, y - 8, `goal ${axes.goal}`, "end", "#d97706"));
    }
    const top = rows.find((r) => r.number === study.best);
    const ring = top && top.value !== null
      ? `<circle cx="${px(X(top.number))}" cy="${px(Y(top.value))}" r="5.5" stroke="#12a594" stroke-width="2"/>` : "";
    holder.innerHTML = `<svg viewBox="0 0 ${axes.width} ${axes.height}" role="img" fill="none" font-size="11">${lines.join("")}`
      + path(dots, "#4f8ef7", `stroke-opacity=".7" stroke-width="${spots.length <= 300 ? 6 : 4}" stroke-linecap="round"`)
      + path(beyond, "#4f8ef7", 'stroke-width="1.5"') + path(stairs, "#12a594", 'stroke-width="2"') + path(marks, "#e5484d", 'stroke-width="2"') + ring + "</svg>";
    holder.firstElementChild.setAttribute("aria-label", `${study.objective} over ${rows.length} trials`);
    caption.textContent = `${study.objective} by trial; the line is the best so far`;
  };
}

// ---- figures and tables of the script; each is escaped or made safe by the kernel --------------------------------------

function makeShown(parent, before) {
  const box = node("div", "kpt-shown");
  before.after(box);
  const drawn = new Map();
  return (model) => {
    const wanted = model.get("shown") ?? [];
    for (const number of wanted) {
      if (drawn.has(number)) continue;
      const one = node("div");
      one.innerHTML = model.get(`s${number}`) ?? "";
      drawn.set(number, one);
    }
    for (const number of drawn.keys()) if (!wanted.includes(number)) drawn.delete(number);
    box.replaceChildren(...wanted.map((number) => drawn.get(number)));
    box.hidden = !wanted.length;
  };
}

// ---- the log ----------------------------------------------------------------------------------------------------------

function makeLog(parent) {
  const box = node("details", "kpt-log", parent);
  box.open = true;
  const summary = node("summary", "", box);
  const pre = node("pre", "", box);
  pre.tabIndex = 0;
  pre.setAttribute("role", "log");
  pre.setAttribute("aria-live", "off"); // the state is announced, not every line
  let pinned = true; // to its end, until the reader scrolls up
  const pin = () => { if (pinned) pre.scrollTop = pre.scrollHeight; };
  pre.onscroll = () => { pinned = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24; };
  new ResizeObserver(pin).observe(pre);

  return (model) => {
    const [newest, open, heading] = model.get("log");
    const lines = [];
    for (let block = Math.max(0, newest - BLOCKS + 1); block <= newest; block++) {
      const part = model.get(`b${block % BLOCKS}`);
      if (part && part[0] === block) lines.push(...part[1]);
    }
    if (open) lines.push(open);
    pre.textContent = lines.join("\n");
    pin();
    summary.textContent = heading;
    box.hidden = !lines.length;
  };
}

// ---- the card ---------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const card = node("section", "kpt kpt-live", el);
  const head = node("div", "", card), body = node("div", "", card);
  head.setAttribute("aria-live", "polite");
  let drawStudy = () => {};
  if (model.get("study")) {
    const chart = makeChart(card), table = makeTable(card, () => drawStudy());
    drawStudy = () => {
      const study = model.get("study"), rows = rowsOf(model);
      chart(rows, study, model.get("frame"));
      table(rows, study);
    };
  }
  const drawShown = makeShown(card, body);
  const drawLog = makeLog(card);

  const ahead = Date.now() / 1000 - (model.get("now") ?? Date.now() / 1000); // the browser's clock before the kernel's
  const tick = () => {
    const time = head.querySelector("[data-since]");
    if (time) time.textContent = duration(Date.now() / 1000 - ahead - Number(time.dataset.since));
  };
  const clock = setInterval(tick, 500);

  const html = (box, part) => {
    const focused = box.contains(document.activeElement);
    box.innerHTML = model.get(part) ?? "";
    if (focused) box.querySelector("button")?.focus();
  };
  const draw = (changed) => {
    if (changed.has("head")) { html(head, "head"); tick(); }
    if (changed.has("body")) html(body, "body");
    if (["study", "frame"].some((part) => changed.has(part)) || [...changed].some((part) => /^t\d/.test(part))) drawStudy();
    if (changed.has("shown")) drawShown(model);
    if (changed.has("log") || [...changed].some((part) => /^b\d/.test(part))) drawLog(model);
  };

  let waiting = null;
  const news = () => {
    const parts = model.get("news")[1];
    if (waiting) return parts.forEach((part) => waiting.add(part));
    waiting = new Set(parts);
    requestAnimationFrame(() => { const due = waiting; waiting = null; draw(due); });
  };

  card.addEventListener("click", async (event) => {
    const button = event.target.closest(".kpt-copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });

  draw(new Set(["head", "body", "shown", "study", "log"]));
  model.on("change:news", news);
  return () => { clearInterval(clock); model.off("change:news", news); };
}

export default { render };
