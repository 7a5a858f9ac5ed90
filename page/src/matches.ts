// What the grid shows: the matches of a search, or the gallery page by page.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { browse, type Match, type Page, type Progress, type Refusal } from "./api";
import { FIRST, MOST, searchBy } from "./examples";
import { asRefusal } from "./hooks";
import { formatState, type State } from "./state";
import { whereOf } from "./where";

const FIRST_PAGE = 200;
const LATER_PAGE = 1000;

export interface Shown {
  items: Match[];
  total: number | null;
  waits: boolean;
  error: Refusal | null;
  milliseconds: number | null;
  isWhole: boolean; // whether there is no more
  progress: Progress | null; // while the order is worked out
  starts: Map<string, number>; // as in Page
}

const NOTHING: Shown = {
  items: [], total: null, waits: true, error: null, milliseconds: null, isWhole: false, progress: null, starts: new Map(),
};
const LOOK_AGAIN = 1000;

/** The part of the state that says which images are shown. */
export function keyOfShown(state: State): string {
  return formatState({ ...state, least: null, open: null, view: "search" });
}

export function useMatches(state: State, version: string): { shown: Shown; more: () => void; set: (items: Match[]) => void } {
  const key = `${version} ${keyOfShown(state)}`;
  const [held, setShown] = useState<Shown & { key: string }>({ ...NOTHING, key: "" });
  const shown = held.key === key ? held : { ...held, waits: true, error: null };
  const now = useRef({ key, control: new AbortController(), next: null as string | null, busy: false });

  useEffect(() => {
    const control = new AbortController();
    now.current.control.abort();
    const run = { key, control, next: null as string | null, busy: true };
    now.current = run;
    const tell = (progress: Progress) => setShown({ ...NOTHING, key, progress });
    load(state, run.next, FIRST, control.signal, tell).then(
      (got) => {
        if (control.signal.aborted) return;
        run.busy = false;
        run.next = got.next;
        setShown({ ...got.shown, key });
      },
      (error: unknown) => {
        if (!control.signal.aborted) setShown({ ...NOTHING, key, waits: false, isWhole: true, error: asRefusal(error) });
      },
    );
    return () => control.abort();
  }, [key]);

  const more = useCallback(() => {
    const run = now.current;
    if (run.busy || run.next === null) return;
    run.busy = true;
    load(state, run.next, MOST, run.control.signal, () => undefined).then(
      (got) => {
        if (run.control.signal.aborted) return;
        run.busy = false;
        run.next = got.next;
        setShown((before) => ({ ...joined(before, got.shown, state.examples.length > 0), key }));
      },
      () => undefined, // tried again when one scrolls on
    ).finally(() => (run.busy = false));
  }, [key]);

  const set = useCallback((items: Match[]) => setShown((before) => ({ ...before, items })), []);
  return { shown, more, set };
}

/** More matches of a search come with those there are; those stay where they stand. */
function joined(before: Shown, got: Shown, isSearch: boolean): Shown {
  const known = new Set(before.items.map((match) => match.id));
  const items = [...before.items, ...got.items.filter((match) => !known.has(match.id))];
  const starts = new Map([...before.starts, ...got.starts]);
  return { ...got, items, starts, milliseconds: isSearch ? before.milliseconds : got.milliseconds };
}

async function load(
  state: State, next: string | null, k: number, signal: AbortSignal, tell: (progress: Progress) => void,
): Promise<{ shown: Shown; next: string | null }> {
  const base = { ...NOTHING, waits: false };
  if (state.examples.length) {
    const found = await searchBy(state, k, signal);
    const isWhole = found.matches.length < k || k >= MOST;
    const shown = { ...base, items: found.matches, total: null, milliseconds: found.milliseconds, isWhole };
    return { shown, next: isWhole ? null : "more" };
  }
  const page = await listed(state, next, signal, tell);
  const shown = { ...base, items: page.items, total: page.total, isWhole: page.next === null, starts: page.starts };
  return { shown, next: page.next };
}

/** Ask again until the order is worked out. */
async function listed(state: State, next: string | null, signal: AbortSignal, tell: (progress: Progress) => void): Promise<Page> {
  for (;;) {
    const page = await browse(state.gallery, whereOf(state), state.order, next, next === null ? FIRST_PAGE : LATER_PAGE, signal);
    if (!page.progress) return page;
    signal.throwIfAborted();
    tell(page.progress);
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
    signal.throwIfAborted();
  }
}
