"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const clock = (s, step) => new Date(s * 1000).toISOString().slice(11, step < 1 ? 21 : 19);
  const number = (n) => (Number.isInteger(n) ? n : Math.round(n * 1000) / 1000).toLocaleString("en");
  const duration = (s) => s < 1e-3 ? Math.round(s * 1e6) + " µs" : s < 1 ? +(s * 1e3).toPrecision(3) + " ms" : +s.toPrecision(3) + " s";
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const redraw = [];

  // ---- colours of heat: from the page to the hottest, by the logarithm of the count
  const light = [[255, 243, 224], [253, 208, 140], [244, 140, 62], [208, 66, 26], [122, 18, 60], [58, 8, 62]];
  const night = [[42, 28, 52], [92, 26, 92], [160, 44, 90], [224, 84, 48], [250, 160, 32], [252, 240, 150]];
  const shade = (count, most) => {
    if (!count) return css("--hover");
    const scale = dark() ? night : light;
    const at = Math.min(1, Math.log1p(count) / Math.log1p(most)) * (scale.length - 1);
    const low = Math.min(scale.length - 2, Math.floor(at)), part = at - low;
    return `rgb(${scale[low].map((c, i) => Math.round(c + (scale[low + 1][i] - c) * part)).join()})`;
  };

  // ---- lines over time
  const rates = data.rates, points = rates.conflicts.length;
  const times = Array.from({ length: points }, (_, i) => rates.start + i * rates.step_s);
  const perSecond = (name) => rates[name].map((n) => n / rates.step_s);
  const sync = "time";
  const plots = [];
  function plot(id, series, values) {
    const box = $(id);
    if (points < 2) { box.textContent = "The log is too short for a chart; the numbers are below."; return; }
    const make = () => {
      plots.filter((one) => one.id === id).forEach((one) => { one.chart.destroy(); plots.splice(plots.indexOf(one), 1); });
      const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
      const chart = new uPlot({
        width: box.clientWidth, height: 210, tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
        cursor: { sync: { key: sync }, points: { size: 6 } }, legend: { live: true },
        scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
        axes: [{ ...axis, space: 70, size: 30, values: "{HH}:{mm}:{ss}" }, { ...axis, size: 56, values: (u, ticks) => ticks.map(number) }],
        series: [{ label: "UTC", value: (u, v) => v == null ? "–" : clock(v, rates.step_s) }, ...series.map((one) => ({
          label: one.label, stroke: css(one.color), width: 1.75, fill: one.fill ? css(one.color) + "26" : undefined,
          points: { show: points < 80, size: 4 }, value: (u, v) => v == null ? "–" : number(+v.toPrecision(3)),
        }))],
      }, [times, ...values], box);
      plots.push({ id, chart });
      new ResizeObserver(() => chart.root.isConnected && chart.setSize({ width: box.clientWidth, height: 210 })).observe(box);
    };
    redraw.push(make);
    make();
  }
  plot("plot-rates", [
    { label: "commits", color: "--commit" }, { label: "conflicts", color: "--conflict", fill: true }, { label: "give-ups", color: "--gave" },
  ], [perSecond("commits"), perSecond("conflicts"), perSecond("gave_up")]);
  plot("plot-lost", [{ label: "lost s per s", color: "--lost", fill: true }], [perSecond("lost_s")]);

  // ---- canvases of blocks
  function blocks(canvas, rows, height, most, mark) {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, columns = rows[0].length;
    canvas.style.height = rows.length * height + "px";
    canvas.width = width * ratio;
    canvas.height = rows.length * height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const wide = width / columns;
    rows.forEach((cells, y) => cells.forEach((count, x) => {
      pen.fillStyle = shade(count, most);
      pen.fillRect(x * wide, y * height, Math.max(wide - (wide > 5 ? 1 : 0), 0.5), height - 1);
    }));
    if (mark) {
      pen.strokeStyle = css("--ink");
      pen.lineWidth = 2;
      pen.strokeRect(mark.x * wide, mark.y * height, wide - 1, height - 1);
    }
  }
  const place = (canvas, event, rows) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / box.width * rows[0].length);
    const y = Math.floor((event.clientY - box.top) / box.height * rows.length);
    return { x: Math.max(0, Math.min(rows[0].length - 1, x)), y: Math.max(0, Math.min(rows.length - 1, y)) };
  };

  // ---- heat of keys
  const heat = data.heat, canvas = $("heat"), said = $("heat-said");
  const cells = heat.rows.map((row) => row.cells);
  if (cells.length) {
    const most = Math.max(...cells.flat(), 1), list = $("heat-keys");
    let mark = null;
    heat.rows.forEach((row) => { const item = document.createElement("li"); item.textContent = row.key; item.title = row.key; list.append(item); });
    const draw = () => {
      blocks(canvas, cells, 18, most, mark);
      [...list.children].forEach((item, y) => item.classList.toggle("on", mark !== null && mark.y === y));
      const stops = (dark() ? night : light).map((c) => `rgb(${c.join()})`).join();
      const legend = $("heat-legend"), swatch = document.createElement("i");
      swatch.style.background = `linear-gradient(90deg,${stops})`;
      legend.replaceChildren("1", swatch, number(most) + " losses in " + heat.step_s + " s");
    };
    const show = (at) => {
      mark = at;
      const row = heat.rows[at.y], from = heat.starts[at.x].slice(11, heat.step_s < 1 ? 21 : 19);
      said.textContent = `${row.key}: ${number(row.cells[at.x])} losses in the ${heat.step_s} s from ${from} (${number(row.lost)} in all, ${duration(row.lost_s)} lost)`;
      draw();
    };
    canvas.addEventListener("pointermove", (event) => show(place(canvas, event, cells)));
    canvas.addEventListener("click", (event) => filterTo(heat.rows[place(canvas, event, cells).y].key));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Enter" && mark) filterTo(heat.rows[mark.y].key);
      if (!step) return;
      event.preventDefault();
      const at = mark || { x: 0, y: 0 };
      show({ x: Math.max(0, Math.min(cells[0].length - 1, at.x + step[0])), y: Math.max(0, Math.min(cells.length - 1, at.y + step[1])) });
    });
    redraw.push(draw);
    new ResizeObserver(draw).observe(canvas.parentElement);
    draw();
  } else {
    canvas.hidden = true;
    said.textContent = "No key was contended.";
  }

  // ---- durations over time, the slowest on top
  const slow = data.latency, slowCanvas = $("slow");
  const bands = slow.cells.map((row, i) => ({ row, low: slow.edges_s[i], high: slow.edges_s[i + 1] })).reverse();
  if (bands.length && bands[0].row.length) {
    const rows = bands.map((band) => band.row), most = Math.max(...rows.flat(), 1);
    const draw = () => blocks(slowCanvas, rows, Math.max(9, Math.min(18, 260 / rows.length)), most);
    slowCanvas.addEventListener("pointermove", (event) => {
      const at = place(slowCanvas, event, rows), band = bands[at.y];
      $("slow-said").textContent = `${number(band.row[at.x])} operations of ${duration(band.low)} to ${duration(band.high)} in the ${slow.step_s} s from ${clock(slow.start + at.x * slow.step_s, slow.step_s)}`;
    });
    redraw.push(draw);
    new ResizeObserver(draw).observe(slowCanvas.parentElement);
    draw();
  } else {
    slowCanvas.hidden = true;
    $("slow-said").textContent = "No operation ended in this log.";
  }

  // ---- tables behind the charts, made when they are asked for
  const makers = {
    rates: () => [["from (UTC)", "conflicts", "commits", "give-ups", "lost s"], times.map((s, i) =>
      [clock(s, rates.step_s), rates.conflicts[i], rates.commits[i], rates.gave_up[i], rates.lost_s[i]])],
    heat: () => [["key", ...heat.starts.map((s) => s.slice(11, heat.step_s < 1 ? 21 : 19))], heat.rows.map((row) => [row.key, ...row.cells])],
    latency: () => [["duration", ...(bands[0] ? bands[0].row.map((_, x) => clock(slow.start + x * slow.step_s, slow.step_s)) : [])],
      bands.map((band) => [`${duration(band.low)} to ${duration(band.high)}`, ...band.row])],
  };
  const titles = { rates: `Counts in steps of ${rates.step_s} s`, heat: `Losses per key in steps of ${heat.step_s} s`, latency: `Operations by duration in steps of ${slow.step_s} s` };
  document.querySelectorAll("details[data-table]").forEach((details) => details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const [heads, rows] = makers[details.dataset.table]();
    const table = document.createElement("table"), box = document.createElement("div");
    table.createCaption().textContent = titles[details.dataset.table];
    const head = table.createTHead().insertRow();
    heads.forEach((text) => { const cell = document.createElement("th"); cell.scope = "col"; cell.className = "n"; cell.textContent = text; head.append(cell); });
    const body = table.createTBody();
    rows.forEach((row) => {
      const line = body.insertRow();
      row.forEach((value, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.className = i ? "n" : "";
        cell.textContent = typeof value === "number" ? number(value) : value;
        line.append(cell);
      });
    });
    box.className = "scroll";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", titles[details.dataset.table]);
    box.append(table);
    details.append(box);
  }));

  // ---- the table of keys: filter and sort
  const hot = $("hot"), filter = $("filter"), lines = [...hot.tBodies[0].rows];
  const narrow = () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    lines.forEach((line) => { line.hidden = wanted !== "" && !line.cells[0].dataset.v.toLowerCase().includes(wanted); shown += !line.hidden; });
    $("shown").textContent = `${shown} of ${lines.length} keys`;
  };
  function filterTo(key) {
    filter.value = key;
    narrow();
    hot.closest(".scroll").scrollIntoView({ block: "nearest" });
  }
  filter.addEventListener("input", narrow);
  narrow();
  [...hot.tHead.rows[0].cells].forEach((head, column) => {
    if (!lines.some((line) => line.cells[column].dataset.v !== undefined)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      [...hot.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (line) => line.cells[column].dataset.v;
      const textual = lines.some((line) => value(line) !== "" && isNaN(value(line)));
      lines.sort((a, b) => (textual ? value(a).localeCompare(value(b)) : value(a) - value(b)) * (up ? 1 : -1));
      hot.tBodies[0].append(...lines);
    });
  });

  // ---- light and dark, print
  const again = () => redraw.forEach((draw) => draw());
  $("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; again(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    again();
    document.querySelectorAll(".stories details").forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; again(); });
})();
