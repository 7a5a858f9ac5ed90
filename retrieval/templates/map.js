"use strict";
const at = id => document.getElementById(id);
const status_ = at("status"), canvas = at("map"), card = at("card"), search = at("search"), legend = at("legend");
window.onerror = message => { status_.textContent = "error: " + message; };
const { labels, folders, points, thumbnails } = JSON.parse(at("data").textContent);
const pen = canvas.getContext("2d");
// Okabe and Ito's colours first, then evenly spaced hues; shapes change with each round
const OKABE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a800", "#7f7f7f"];
const colour = n => n < OKABE.length ? OKABE[n] : `hsl(${(n * 137.508) % 360} 62% ${45 + 12 * (n % 3)}%)`;
const shape = n => n < OKABE.length ? n % 4 : (n >> 3) % 4;
const EDGE = 28; // pixels between the outermost points and the window
const wanted = new Set(labels.keys());
let view = { x: 0, y: 0, scale: 1 }, hovered = -1, pinned = -1, matching = points.map(() => true);

// Each axis fills its side of the window: distances on such a map are no measure anyway
const reach = n => {
  let low = Infinity, high = -Infinity;
  for (const p of points) { low = Math.min(low, p[n]); high = Math.max(high, p[n]); }
  return [low, high > low ? high - low : 1, high > low];
};
const across = reach(0), down = reach(1);
const width = () => canvas.clientWidth, height = () => canvas.clientHeight;
const along = (value, [low, span, wide], side) => wide ? EDGE + (value - low) / span * (side - 2 * EDGE) : side / 2;
const place = p => [along(p[0], across, width()) * view.scale + view.x, along(p[1], down, height()) * view.scale + view.y];

function path(to, x, y, r, kind) {
  to.beginPath();
  if (kind === 0) to.arc(x, y, r, 0, 7);
  else if (kind === 1) to.rect(x - r, y - r, 2 * r, 2 * r);
  else if (kind === 2) { to.moveTo(x, y - 1.3 * r); to.lineTo(x + 1.2 * r, y + r); to.lineTo(x - 1.2 * r, y + r); to.closePath(); }
  else { to.moveTo(x, y - 1.4 * r); to.lineTo(x + 1.4 * r, y); to.lineTo(x, y + 1.4 * r); to.lineTo(x - 1.4 * r, y); to.closePath(); }
}
function draw() {
  const ratio = devicePixelRatio || 1, w = width(), h = height();
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  const room = Math.sqrt(w * h / Math.max(1, points.length));
  const r = Math.min(9, Math.max(2.2, Math.min(6, room / 9)) * Math.sqrt(view.scale));
  let shown = 0;
  for (const pass of [false, true]) points.forEach((p, n) => {
    const on = matching[n] && wanted.has(p[2]);
    if (on !== pass) return;
    shown += on;
    const [x, y] = place(p);
    if (x < -20 || y < -20 || x > w + 20 || y > h + 20) return;
    pen.globalAlpha = on ? 0.85 : 0.07;
    pen.fillStyle = colour(p[2]);
    path(pen, x, y, r, shape(p[2]));
    pen.fill();
  });
  pen.globalAlpha = 1;
  if (hovered >= 0) {
    const [x, y] = place(points[hovered]);
    pen.lineWidth = 2; pen.strokeStyle = getComputedStyle(document.body).color;
    path(pen, x, y, r + 3, 0); pen.stroke();
  }
  status_.textContent = `${shown} of ${points.length} points`;
}
function filter() {
  const text = search.value.trim().toLowerCase();
  matching = points.map(p => !text || [labels[p[2]], p[3], folders[p[4]].join("")].some(part => part.toLowerCase().includes(text)));
  draw();
}
function nearest(x, y, most) {
  let best = most * most, found = -1;
  points.forEach((p, n) => {
    if (!matching[n] || !wanted.has(p[2])) return;
    const [px, py] = place(p), d = (px - x) ** 2 + (py - y) ** 2;
    if (d < best) { best = d; found = n; }
  });
  return found;
}
function show(n, x, y) {
  hovered = n;
  card.hidden = n < 0;
  card.classList.toggle("pinned", n >= 0 && n === pinned);
  if (n >= 0) {
    const [, , label, name, folder, href] = points[n], [frame, text] = card.children, [link, where, facts] = text.children;
    const [picture, gone] = frame.children, [start, middle, end] = folders[folder];
    picture.hidden = !thumbnails[n]; gone.textContent = thumbnails[n] ? "" : "file is gone";
    if (thumbnails[n]) picture.src = thumbnails[n];
    link.textContent = name; facts.textContent = labels[label];
    if (thumbnails[n]) link.href = href; else link.removeAttribute("href");
    const cut = document.createElement("span");
    cut.className = "cut"; cut.textContent = middle;
    where.replaceChildren(start, ...(middle ? [cut, end] : []));
    where.title = start + middle + end;
    card.style.left = Math.max(8, Math.min(x + 16, width() - card.offsetWidth - 8)) + "px";
    card.style.top = Math.max(8, Math.min(y + 16, height() - card.offsetHeight - 8)) + "px";
  }
  draw();
}
function pin(n, x, y) { pinned = n; show(n, x, y); }
function zoom(factor, x, y) {
  const scale = Math.max(0.5, Math.min(200, view.scale * factor)), f = scale / view.scale;
  view = { x: x - (x - view.x) * f, y: y - (y - view.y) * f, scale };
  pin(-1);
}
function whole() { view = { x: 0, y: 0, scale: 1 }; pin(-1); }
const held = new Map();
let spread = 0, moved = 0;
canvas.addEventListener("wheel", e => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 300), e.offsetX, e.offsetY); }, { passive: false });
canvas.addEventListener("pointerdown", e => {
  held.set(e.pointerId, [e.offsetX, e.offsetY]); spread = 0; moved = held.size > 1 ? 99 : 0;
  canvas.setPointerCapture(e.pointerId);
});
canvas.addEventListener("pointermove", e => {
  const before = held.get(e.pointerId);
  if (!before) { if (pinned < 0) show(nearest(e.offsetX, e.offsetY, 14), e.offsetX, e.offsetY); return; }
  held.set(e.pointerId, [e.offsetX, e.offsetY]);
  if (held.size === 2) {
    const [a, b] = [...held.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (spread) zoom(now / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    spread = now;
  } else {
    moved += Math.abs(e.offsetX - before[0]) + Math.abs(e.offsetY - before[1]);
    view.x += e.offsetX - before[0]; view.y += e.offsetY - before[1];
    if (moved > 4) pin(-1);
  }
});
canvas.addEventListener("pointerup", e => { if (moved <= 4) pin(nearest(e.offsetX, e.offsetY, 20), e.offsetX, e.offsetY); });
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, e => { held.delete(e.pointerId); spread = 0; });
canvas.addEventListener("pointerleave", () => { if (pinned < 0) show(-1); });
canvas.addEventListener("dblclick", whole);
canvas.addEventListener("keydown", e => {
  const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[e.key];
  if (step) { view.x += step[0]; view.y += step[1]; pin(-1); }
  else if (e.key === "+" || e.key === "=") zoom(1.3, width() / 2, height() / 2);
  else if (e.key === "-") zoom(1 / 1.3, width() / 2, height() / 2);
  else if (e.key === "0") whole();
});
addEventListener("keydown", e => { if (e.key === "Escape") pin(-1); });
const counts = labels.map(() => 0);
for (const p of points) counts[p[2]] += 1;
labels.forEach((label, n) => {
  const item = document.createElement("li"), button = document.createElement("button");
  const mark = document.createElement("canvas"), name = document.createElement("span"), count = document.createElement("span");
  mark.width = mark.height = 14;
  const other = mark.getContext("2d");
  other.fillStyle = colour(n); path(other, 7, 7, 4.6, shape(n)); other.fill();
  name.textContent = label || "(no label)"; name.className = "label";
  count.textContent = counts[n]; count.className = "soft";
  button.append(mark, name, count); button.setAttribute("aria-pressed", "true");
  button.title = "Click: only this label, or all again. Shift and click: hide or show it.";
  button.addEventListener("click", e => {
    if (e.shiftKey) wanted.has(n) ? wanted.delete(n) : wanted.add(n);
    else { const only = wanted.size === 1 && wanted.has(n); wanted.clear(); (only ? [...labels.keys()] : [n]).forEach(k => wanted.add(k)); }
    [...legend.children].forEach((li, k) => li.firstChild.setAttribute("aria-pressed", wanted.has(k)));
    draw();
  });
  item.append(button); legend.append(item);
});
at("labels").open = innerWidth > 760; // on a phone the map has the room
search.addEventListener("input", filter);
new ResizeObserver(draw).observe(canvas);
const asked = new URLSearchParams(location.hash.slice(1));
search.value = asked.get("q") || "";
filter();
if (asked.get("hover")) { const n = +asked.get("hover"); show(n, ...place(points[n])); }
