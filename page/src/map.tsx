// The map: what looks alike lies close together. A lasso around points shows them as a grid.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { readMap, thumbnailOf, type Point } from "./api";
import { change, stateNow, useJob, useWidth } from "./hooks";
import { isWithin, type Spot } from "./lasso";
import { numberText, visible } from "./names";
import { Picture } from "./picture";
import { Progressing } from "./progress";
import { emptyState } from "./state";

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#7a52c7"];
const MOST_SHOWN = 1000; // ids that a filter has room for
const MARGIN = 14;
const NEAR = 12;

export function MapView({ name, version: newest }: { name: string; version: string }) {
  const [version] = useState(newest); // a map stays as it is while one looks at it
  const answer = useJob(`map ${name} ${version}`, () => readMap(name));
  const progress = answer.value?.progress ?? null;
  if (answer.error) return <p class="wrong-text" role="alert">{answer.error.message}</p>;
  const points = answer.value?.points ?? [];
  return (
    <div class="content">
      <h1>Map</h1>
      {progress || (answer.waits && !answer.value)
        ? <Progressing text="Drawing the map" progress={progress} />
        : <Points points={points} gallery={name} total={answer.value?.total ?? 0} />}
    </div>
  );
}

function Points({ points, gallery, total }: { points: Point[]; gallery: string; total: number }) {
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [line, setLine] = useState<Spot[]>([]);
  const [near, setNear] = useState<number | null>(null);
  const height = Math.max(320, Math.min(innerHeight - 230, Math.round(width * (width < 600 ? 1.2 : 0.75))));
  const labels = useMemo(() => commonLabels(points), [points]);
  const spots = useMemo(() => placed(points, width, height), [points, width, height]);
  useEffect(() => paint(canvas.current, points, spots, labels, line, near), [points, spots, labels, line, near, width]);

  const handlers = useLasso({ canvas, points, spots, line, setLine, near, setNear });
  const chosen = near === null ? undefined : points[near];
  return (
    <div ref={box} class="map-box">
      <p class="soft">{numberText(points.length)}{total > points.length ? ` of ${numberText(total)}` : ""} pictures. Draw a line around some to see them as a grid. With keys: arrow keys go from point to point, Enter shows the nearest 50.</p>
      <canvas
        ref={canvas} class="map-canvas" style={{ height: `${height}px` }} tabIndex={0} role="application" aria-label="Map. Arrow keys go from picture to picture, Enter shows the nearest 50."
        {...handlers}
      />
      <span class="unseen" role="status">{chosen ? `Picture ${chosen.id}, ${visible(chosen.label) || "no label"}` : ""}</span>
      {chosen && near !== null && <Hint point={chosen} spot={spots[near] as Spot} width={width} gallery={gallery} />}
      <ul class="legend" aria-label="Labels">
        {labels.map((label, n) => <li key={label}><Dot colour={COLOURS[n] as string} />{visible(label)}</li>)}
        {points.some((point) => !labels.includes(point.label)) && labels.length > 0 && <li><Dot colour="#888" />others</li>}
      </ul>
    </div>
  );
}

interface Lasso {
  canvas: { current: HTMLCanvasElement | null };
  points: Point[];
  spots: Spot[];
  line: Spot[];
  setLine(line: Spot[] | ((before: Spot[]) => Spot[])): void;
  near: number | null;
  setNear(near: number | null): void;
}

/** What a pointer and the keys do on the map. */
function useLasso({ canvas, points, spots, line, setLine, near, setNear }: Lasso) {
  const drawing = useRef(false);
  const at = (event: PointerEvent): Spot => {
    const place = (canvas.current as HTMLElement).getBoundingClientRect();
    return { x: event.clientX - place.left, y: event.clientY - place.top };
  };
  function onUp(): void {
    if (!drawing.current) return;
    drawing.current = false;
    const inside = line.length > 3 ? points.filter((_, n) => isWithin(line, spots[n] as Spot)) : [];
    setLine([]);
    if (inside.length) showGrid(inside);
    else if (near !== null) change({ view: "search", open: points[near]?.id ?? null });
  }
  function onDown(event: PointerEvent): void {
    drawing.current = true;
    canvas.current?.setPointerCapture(event.pointerId);
    setLine([at(event)]);
  }
  function onMove(event: PointerEvent): void {
    const spot = at(event); // before the event is over
    if (drawing.current) setLine((before) => [...before, spot]);
    else setNear(nearest(spots, spot, NEAR));
  }
  function onKeyDown(event: KeyboardEvent): void {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (direction) setNear(towards(spots, near, direction[0] as number, direction[1] as number));
    else if (event.key === "Enter" && near !== null) showGrid(around(points, spots, near, 50));
    else return;
    event.preventDefault();
  }
  const onPointerCancel = () => {
    drawing.current = false;
    setLine([]);
  };
  return { onPointerDown: onDown, onPointerMove: onMove, onPointerUp: onUp, onPointerCancel, onKeyDown };
}

function Dot({ colour }: { colour: string }) {
  return <svg class="dot" viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill={colour} /></svg>;
}

function Hint({ point, spot, width, gallery }: { point: Point; spot: Spot; width: number; gallery: string }) {
  const left = Math.max(0, Math.min(width - 170, spot.x - 80));
  return (
    <div class="hint" style={{ transform: `translate(${left}px, ${spot.y + 14}px)` }} aria-hidden="true">
      <Picture path={thumbnailOf(gallery, point.id, 192)} alt="" large />
      <span>{visible(point.label) || "no label"}</span>
    </div>
  );
}

function showGrid(points: Point[]): void {
  const ids = points.slice(0, MOST_SHOWN).map((point) => point.id);
  change({ ...emptyState(), gallery: stateNow().gallery, ids, leftOut: points.length - ids.length });
  scrollTo({ top: 0 });
}

function commonLabels(points: Point[]): string[] {
  const counts = new Map<string, number>();
  for (const { label } of points) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, COLOURS.length).map(([label]) => label);
}

function placed(points: Point[], width: number, height: number): Spot[] {
  const ends = (values: number[]) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)] as [number, number], [Infinity, -Infinity] as [number, number]);
  const [left, right] = ends(points.map((point) => point.x));
  const [top, bottom] = ends(points.map((point) => point.y));
  const part = (value: number, low: number, high: number) => (high > low ? (value - low) / (high - low) : 0.5);
  return points.map((point) => ({
    x: MARGIN + part(point.x, left, right) * (width - 2 * MARGIN),
    y: MARGIN + (1 - part(point.y, top, bottom)) * (height - 2 * MARGIN),
  }));
}

function nearest(spots: Spot[], spot: Spot, most: number): number | null {
  let found: number | null = null;
  let least = most;
  spots.forEach((each, n) => {
    const distance = Math.hypot(each.x - spot.x, each.y - spot.y);
    if (distance < least) [found, least] = [n, distance];
  });
  return found;
}

/** The next point in a direction; what lies aside counts as further. */
function towards(spots: Spot[], from: number | null, dx: number, dy: number): number | null {
  if (from === null) return spots.length ? 0 : null;
  const start = spots[from] as Spot;
  let [found, least] = [from, Infinity];
  spots.forEach((each, n) => {
    const along = (each.x - start.x) * dx + (each.y - start.y) * dy;
    const aside = Math.abs((each.x - start.x) * dy) + Math.abs((each.y - start.y) * dx);
    if (along > 0.5 && along + 2 * aside < least) [found, least] = [n, along + 2 * aside];
  });
  return found;
}

function around(points: Point[], spots: Spot[], from: number, count: number): Point[] {
  const start = spots[from] as Spot;
  return spots.map((each, n) => ({ n, d: Math.hypot(each.x - start.x, each.y - start.y) }))
    .sort((a, b) => a.d - b.d).slice(0, count).map(({ n }) => points[n] as Point);
}

function paint(
  canvas: HTMLCanvasElement | null, points: Point[], spots: Spot[], labels: string[], line: Spot[], near: number | null,
): void {
  const pen = canvas?.getContext("2d");
  if (!canvas || !pen) return;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  pen.scale(devicePixelRatio, devicePixelRatio);
  const radius = points.length > 5000 ? 2 : points.length > 500 ? 3 : 5;
  pen.globalAlpha = 0.8;
  points.forEach((point, n) => {
    const spot = spots[n] as Spot;
    pen.fillStyle = COLOURS[labels.indexOf(point.label)] ?? "#888";
    pen.beginPath();
    pen.arc(spot.x, spot.y, n === near ? radius + 4 : radius, 0, 7);
    pen.fill();
  });
  if (line.length > 1) {
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 2;
    pen.beginPath();
    line.forEach((spot, n) => (n ? pen.lineTo(spot.x, spot.y) : pen.moveTo(spot.x, spot.y)));
    pen.closePath();
    pen.stroke();
  }
}
