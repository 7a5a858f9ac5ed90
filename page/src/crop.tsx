// The query, and the box on it that is searched by: drawn with a mouse or a finger, or by keys.

import { useEffect, useRef, useState } from "preact/hooks";
import { useSource } from "./hooks";
import type { Box } from "./state";

interface CropProps {
  path: string; // of the picture
  box: Box | null;
  drawing: boolean; // whether a finger draws instead of scrolling
  onBox(box: Box | null): void;
}

interface Size {
  w: number;
  h: number;
}

export function Crop(props: CropProps) {
  const source = useSource(props.path);
  const [size, setSize] = useState<Size | null>(null);
  const { area, drawn, handlers } = useDrawn(props, size);
  return (
    <div
      ref={area} class={`crop ${props.drawing ? "drawing" : ""}`} tabIndex={0} role="application"
      aria-label="Query. Arrow keys draw and move a box, with Shift they resize it; Enter searches by it, Escape removes it."
      {...handlers}
    >
      <img
        src={source} alt="The query" decoding="async" draggable={false}
        onLoad={(event: Event) => {
          const image = event.target as HTMLImageElement;
          setSize({ w: image.naturalWidth, h: image.naturalHeight });
        }}
      />
      {drawn && size && <div class="box" style={styleOf(drawn, size)} />}
      <span class="unseen" aria-live="polite">
        {drawn ? `Box at ${drawn.x}, ${drawn.y}, ${drawn.w} by ${drawn.h} pixels` : ""}
      </span>
    </div>
  );
}

/** The box while it is drawn, and what draws it. */
function useDrawn({ box, drawing, onBox }: CropProps, size: Size | null) {
  const [drawn, setDrawn] = useState<Box | null>(box);
  const start = useRef<{ x: number; y: number } | null>(null);
  const area = useRef<HTMLDivElement>(null);
  useEffect(() => setDrawn(box), [box?.x, box?.y, box?.w, box?.h]);
  useEffect(() => {
    if (drawing) area.current?.focus({ preventScroll: true });
  }, [drawing]);

  function at(event: PointerEvent): { x: number; y: number } {
    const place = (area.current as HTMLElement).getBoundingClientRect();
    const across = Math.min(1, Math.max(0, (event.clientX - place.left) / place.width));
    const down = Math.min(1, Math.max(0, (event.clientY - place.top) / place.height));
    return { x: Math.round(across * (size?.w ?? 0)), y: Math.round(down * (size?.h ?? 0)) };
  }

  function onMove(event: PointerEvent): void {
    if (!start.current || !size) return;
    setDrawn(between(start.current, at(event)));
  }

  function onUp(event: PointerEvent): void {
    if (!start.current || !size) return;
    const made = between(start.current, at(event));
    start.current = null;
    const isBox = made.w >= 0.02 * size.w && made.h >= 0.02 * size.h;
    setDrawn(isBox ? made : box); // a click is no box
    if (isBox) onBox(made);
  }

  function onKey(event: KeyboardEvent): void {
    if (!size) return;
    const next = movedBox(event, drawn, size);
    if (event.key === "Escape" && drawn) onBox(null);
    else if (event.key === "Enter" && drawn) onBox(drawn);
    else if (next) setDrawn(next);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onDown(event: PointerEvent): void {
    if (event.button !== 0 || (event.pointerType === "touch" && !drawing)) return;
    start.current = at(event);
    area.current?.setPointerCapture(event.pointerId);
  }
  const onPointerCancel = () => (start.current = null);
  const handlers = { onKeyDown: onKey, onPointerMove: onMove, onPointerUp: onUp, onPointerDown: onDown, onPointerCancel };
  return { area, drawn, handlers };
}

function between(a: { x: number; y: number }, b: { x: number; y: number }): Box {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), w: Math.abs(a.x - b.x), h: Math.abs(a.y - b.y) };
}

function styleOf(box: Box, size: Size): Record<string, string> {
  const percent = (part: number, of: number) => `${(100 * part) / of}%`;
  return {
    left: percent(box.x, size.w), top: percent(box.y, size.h),
    width: percent(box.w, size.w), height: percent(box.h, size.h),
  };
}

/** The box after an arrow key; without one yet, the middle half of the picture. */
function movedBox(event: KeyboardEvent, box: Box | null, size: Size): Box | null {
  const step = Math.max(1, Math.round(0.04 * Math.min(size.w, size.h)));
  const moves: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const move = moves[event.key];
  if (!move) return null;
  const [dx, dy] = move;
  if (!box) {
    return { x: size.w >> 2, y: size.h >> 2, w: Math.max(1, size.w >> 1), h: Math.max(1, size.h >> 1) };
  }
  const kept = (value: number, most: number) => Math.round(Math.min(most, Math.max(0, value)));
  if (event.shiftKey) {
    return { ...box, w: Math.max(step, kept(box.w + dx, size.w - box.x)), h: Math.max(step, kept(box.h + dy, size.h - box.y)) };
  }
  return { ...box, x: kept(box.x + dx, size.w - box.w), y: kept(box.y + dy, size.h - box.h) };
}
