// A grid of cards that holds only those near the window, so that 10,000 scroll like 10.

import { Component } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Match } from "./api";
import { Card, type CardActions } from "./card";
import { useWidth } from "./hooks";
import { nameWidth } from "./measure";
import { fileOf, visible } from "./names";
import { cardBeside, layRows, linesOf, rowAt, rowOf, type Row } from "./rows";

const GAP = 12;
const LEAST_WIDTH = 176;
const BESIDE_NAME = 238; // the frame, the folder, the facts and what is between them: see .card
const NAME_LINE = 20;
const LINE_HEIGHT = 34;
const PAD = 20; // of a card, left and right

/** A line of text across the grid, before the card at a place. */
export interface Line {
  at: number;
  text: string;
}

interface GridProps {
  items: Match[];
  gallery: string;
  known: string | null;
  lines: readonly Line[];
  selected: Set<string>;
  actions: CardActions;
  label: string;
  waits: boolean; // whether what is shown is of the question before
  columns?: number; // else as many as fit
  word?: string; // on each card, what it is
  onEnd?: () => void; // the last cards come near
}

export function Grid(props: GridProps) {
  const { items, lines, onEnd } = props;
  const [box, width] = useWidth<HTMLDivElement>();
  const columns = props.columns ?? Math.max(width < 420 ? 2 : 1, Math.floor((width + GAP) / (LEAST_WIDTH + GAP)));
  const cardWidth = Math.floor((width - GAP * (columns - 1)) / columns);
  const laid = useMemo(() => layRows(
    items.length, columns, GAP,
    (index) => BESIDE_NAME + NAME_LINE * linesOf(visible(fileOf(items[index]?.path ?? "")), cardWidth - PAD, nameWidth),
    lines.map((line) => line.at), LINE_HEIGHT,
  ), [items, columns, cardWidth, lines]);
  const [from, to] = useWindow(box, laid.rows, laid.height);
  const { at, onKeyDown, onFocusIn } = useCursor(box, laid.rows, columns, items, props.actions);

  useEffect(() => {
    if (onEnd && to >= laid.rows.length - 6) onEnd();
  }, [to, laid.rows.length, onEnd]);

  const shown = laid.rows.slice(from, to).map((row, k) => ({ row, n: from + k }));
  const kept = rowOf(laid.rows, at); // stays in the document, so that the focus does
  const keptRow = laid.rows[kept];
  if (keptRow && (kept < from || kept >= to)) shown.push({ row: keptRow, n: kept });
  return (
    <div
      ref={box} class="grid" role="grid" aria-label={props.label} aria-busy={props.waits} aria-rowcount={laid.rows.length}
      aria-multiselectable={props.actions.select ? true : undefined}
      style={{ height: `${laid.height}px` }} onKeyDown={onKeyDown}
      onFocusIn={onFocusIn}
    >
      {width > 0 && shown.map(({ row, n }) => (
        <GridRow
          key={row.kind === "line" ? `line ${row.start}` : row.start} row={row} n={n} columns={columns} cardWidth={cardWidth}
          at={at >= row.start && at < row.end ? at : -1} items={items} gallery={props.gallery} known={props.known}
          line={row.kind === "line" ? lines.find((line) => line.at === row.start)?.text ?? "" : ""} word={props.word} selected={props.selected} actions={props.actions}
        />
      ))}
    </div>
  );
}

/** The card that the keys are on; Tab reaches this one alone. */
function useCursor(box: { current: HTMLElement | null }, rows: Row[], columns: number, items: Match[], actions: CardActions) {
  const [active, setActive] = useState(0);
  const focus = useRef(false);
  const at = Math.min(active, Math.max(0, items.length - 1));

  useLayoutEffect(() => {
    if (!focus.current || !box.current) return;
    focus.current = false;
    const card = box.current.querySelector<HTMLElement>(`[data-index="${at}"]`);
    card?.focus({ preventScroll: true });
    card?.scrollIntoView({ block: "nearest" });
  });

  function onKeyDown(event: KeyboardEvent): void {
    const cell = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = reached(event.key, Number(cell.dataset.index), items.length, columns, rows);
    if (next !== null) {
      event.preventDefault();
      focus.current = true;
      setActive(next);
      return;
    }
    if (event.target !== cell) return;
    const match = items[Number(cell.dataset.index)];
    if (match && act(event, match, Number(cell.dataset.index), actions)) event.preventDefault();
  }
  function onFocusIn(event: FocusEvent): void {
    const cell = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (cell) setActive(Number(cell.dataset.index));
  }
  return { at, onKeyDown, onFocusIn };
}

interface RowProps extends Pick<GridProps, "items" | "gallery" | "known" | "word" | "selected" | "actions"> {
  row: Row;
  line: string;
  n: number;
  columns: number;
  cardWidth: number;
  at: number; // the card that Tab reaches, -1 where it is in another row
}

/** A row, drawn again only when something of it is new: scrolling then costs what comes into view. */
class GridRow extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    return (Object.keys(next) as (keyof RowProps)[]).some((name) => next[name] !== this.props[name]);
  }

  override render({ row, n, columns, cardWidth, at, items, gallery, known, line, word, selected, actions }: RowProps) {
    const place = { transform: `translateY(${row.top}px)`, height: `${row.height}px` };
    if (row.kind === "line") {
      return <div class="line" role="row" aria-rowindex={n + 1} style={place}><span role="gridcell">{line}</span></div>;
    }
    return (
      <div class="cards" role="row" aria-rowindex={n + 1} style={{ ...place, gridTemplateColumns: `repeat(${columns}, ${cardWidth}px)` }}>
        {items.slice(row.start, row.end).map((match, k) => (
          <Card
            key={match.id} match={match} index={row.start + k} width={cardWidth - PAD} gallery={gallery} known={known}
            selected={selected.has(match.id)} active={at === row.start + k} actions={actions} word={word}
          />
        ))}
      </div>
    );
  }
}

/** The rows in and near the window: the first, and the one after the last. */
function useWindow(box: { current: HTMLElement | null }, rows: Row[], height: number): [number, number] {
  const [range, setRange] = useState<[number, number]>([0, 8]);
  useLayoutEffect(() => {
    function look(): void {
      if (!box.current) return;
      const top = -box.current.getBoundingClientRect().top;
      const near = innerHeight;
      const from = rowAt(rows, top - near);
      const to = Math.min(rows.length, rowAt(rows, top + 2 * near) + 1);
      setRange((before) => (before[0] === from && before[1] === to ? before : [from, to]));
    }
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  }, [rows, height]);
  return [Math.min(range[0], rows.length), Math.min(range[1], rows.length)];
}

function reached(key: string, index: number, count: number, columns: number, rows: Row[]): number | null {
  const last = count - 1;
  switch (key) {
    case "ArrowRight": return Math.min(last, index + 1);
    case "ArrowLeft": return Math.max(0, index - 1);
    case "ArrowDown": return cardBeside(rows, index, 1);
    case "ArrowUp": return cardBeside(rows, index, -1);
    case "PageDown": return cardBeside(rows, index, 3);
    case "PageUp": return cardBeside(rows, index, -3);
    case "Home": return 0;
    case "End": return columns > 0 ? last : null;
    default: return null;
  }
}

function act(event: KeyboardEvent, match: Match, index: number, actions: CardActions): boolean {
  switch (event.key) {
    case "Enter": actions.search(match); return true;
    case " ": actions.select?.(index, event.shiftKey); return true;
    case "o": actions.open(match); return true;
    case "+": actions.add?.(match, 1); return true;
    case "-": actions.add?.(match, -1); return true;
    default: return false;
  }
}
