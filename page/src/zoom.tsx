// A picture that can be zoomed and moved: with the wheel, two fingers, a drag, or keys.

import { useEffect, useRef, useState } from "preact/hooks";
import { useSource } from "./hooks";

interface Look {
  scale: number;
  x: number; // of the middle, in pixels of the screen
  y: number;
}

const WHOLE: Look = { scale: 1, x: 0, y: 0 };
const MOST = 16;

export function Zoom({ path, alt }: { path: string; alt: string }) {
  const source = useSource(path);
  const looking = useLook(path);
  const pointers = usePointers(looking);
  const { look, setLook, area, zoomBy, fromMiddle } = looking;
  const [broken, setBroken] = useState(false);
  useEffect(() => setBroken(false), [path]);
  return (
    <div class="zoom">
      <div
        ref={area} class={`stage ${look.scale > 1 ? "near" : ""}`} tabIndex={0} role="application" aria-label="Picture. Plus and minus zoom, 0 shows it whole, arrow keys move it."
        onKeyDown={(event: KeyboardEvent) => onKey(event, looking)} {...pointers}
        onDblClick={(event: MouseEvent) => (look.scale > 1 ? setLook(WHOLE) : zoomBy(3, ...fromMiddle(event.clientX, event.clientY)))}
      >
        {broken ? <p class="soft">The browser cannot show this file. Open it instead.</p> : (
          <img src={source} alt={alt} draggable={false} onError={() => source && setBroken(true)} style={{ transform: `translate(${look.x}px, ${look.y}px) scale(${look.scale})` }} />
        )}
      </div>
      <div class="ways">
        <button class="plain" aria-label="Zoom in" onClick={() => zoomBy(1.5)}>+</button>
        <button class="plain" aria-label="Zoom out" disabled={look.scale === 1} onClick={() => zoomBy(1 / 1.5)}>−</button>
        <button class="plain" disabled={look.scale === 1} onClick={() => setLook(WHOLE)}>Whole</button>
      </div>
    </div>
  );
}

/** How near one looks, and the wheel, fingers and keys that change it. */
function useLook(path: string) {
  const [look, setLook] = useState(WHOLE);
  const area = useRef<HTMLDivElement>(null);
  useEffect(() => setLook(WHOLE), [path]);

  function zoomBy(factor: number, x = 0, y = 0): void {
    setLook((before) => {
      const scale = Math.min(MOST, Math.max(1, before.scale * factor));
      if (scale === 1) return WHOLE;
      const change = scale / before.scale; // what is under the pointer stays there
      return { scale, x: x - (x - before.x) * change, y: y - (y - before.y) * change };
    });
  }

  function fromMiddle(x: number, y: number): [number, number] {
    const place = (area.current as HTMLElement).getBoundingClientRect();
    return [x - place.left - place.width / 2, y - place.top - place.height / 2];
  }

  useEffect(() => {
    const element = area.current;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY / 300), ...fromMiddle(event.clientX, event.clientY));
    };
    element?.addEventListener("wheel", wheel, { passive: false });
    return () => element?.removeEventListener("wheel", wheel);
  }, []);

  return { look, setLook, area, zoomBy, fromMiddle };
}

type Looking = ReturnType<typeof useLook>;

/** What fingers and the mouse do: one moves the picture, two zoom it. */
function usePointers({ setLook, area, zoomBy, fromMiddle }: Looking) {
  const fingers = useRef(new Map<number, { x: number; y: number }>());
  function onMove(event: PointerEvent): void {
    const before = fingers.current.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...fingers.current].find(([id]) => id !== event.pointerId)?.[1];
    fingers.current.set(event.pointerId, now);
    if (other) {
      const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
      zoomBy(factor, ...fromMiddle((now.x + other.x) / 2, (now.y + other.y) / 2));
    } else {
      setLook((look) => (look.scale === 1 ? look : { ...look, x: look.x + now.x - before.x, y: look.y + now.y - before.y }));
    }
  }

  return {
    onPointerMove: onMove,
    onPointerDown: (event: PointerEvent) => {
      fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
      area.current?.setPointerCapture(event.pointerId);
    },
    onPointerUp: (event: PointerEvent) => fingers.current.delete(event.pointerId),
    onPointerCancel: (event: PointerEvent) => fingers.current.delete(event.pointerId),
  };
}

function onKey(event: KeyboardEvent, { look, setLook, zoomBy }: Looking): void {
  const moves: Record<string, [number, number]> = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  const move = moves[event.key];
  if (event.key === "+" || event.key === "=") zoomBy(1.4);
  else if (event.key === "-") zoomBy(1 / 1.4);
  else if (event.key === "0") setLook(WHOLE);
  else if (move && look.scale > 1) setLook({ ...look, x: look.x + move[0], y: look.y + move[1] });
  else return;
  event.preventDefault();
  event.stopPropagation();
}
