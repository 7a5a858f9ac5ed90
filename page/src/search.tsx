// Search: the query, what narrows it, and the grid of matches; without a query, the gallery.

import { useEffect, useMemo } from "preact/hooks";
import { readImage, type Gallery, type Match } from "./api";
import { addExample, searchByExample } from "./drop";
import { Empty } from "./empty";
import { embeddingOf, mainOf } from "./examples";
import { Facets } from "./facets";
import { FilterBox, useFilterError } from "./filter";
import { Grid, type Line } from "./grid";
import { change, stateNow, useAnswer, useVersion } from "./hooks";
import { Large } from "./large";
import { useMatches, type Shown } from "./matches";
import { numberText } from "./names";
import { Progressing } from "./progress";
import { Query } from "./query";
import { Selection, useSelection } from "./selection";
import type { State } from "./state";
import { lineOf, Threshold, valueOf } from "./threshold";
import { packed } from "./vector";

const ORDERS: [string, string][] = [
  ["", "as indexed"], ["-date", "newest first"], ["date", "oldest first"], ["name", "by file name"], ["path", "by path"],
  ["label", "by label"], ["-size", "largest first"], ["clusters", "alike together"],
];

export function Search({ state, gallery }: { state: State; gallery: Gallery }) {
  const [version, isOld, renew] = useVersion(gallery.version, state.open !== null);
  const { shown, more, set } = useMatches(state, version);
  const isSearch = state.examples.length > 0;
  const items = useMemo(() => (
    isSearch && state.least !== null ? shown.items.filter((match) => valueOf(match) >= (state.least ?? 0)) : shown.items
  ), [shown.items, state.least, isSearch]);
  const selection = useSelection(items);
  const known = useKnownLabel(state);
  const filterError = useFilterError(state);
  const lines = useMemo(() => (isSearch ? linesOfSearch(items) : linesOfClusters(items, shown.starts)), [items, isSearch]);
  useAddressOfFile(state, shown);
  const actions = useMemo(() => ({
    search: (match: Match) => searchByExample({ kind: "id", key: match.id, sign: 1 }),
    open: (match: Match) => change({ open: match.id }),
    ...(isSearch ? { add: (match: Match, sign: 1 | -1) => addExample({ kind: "id", key: match.id, sign }) } : {}),
    select: selection.toggle,
  }), [isSearch, selection.toggle]);
  if (gallery.images === 0) return <Empty failed={gallery.failed} />;
  return (
    <div class="columns">
      <Facets state={state} version={version} />
      <div class="content">
        <Query state={state} />
        <div class="bar">
          <FilterBox state={state} error={filterError} columns={gallery.columns} />
          {isSearch ? <Threshold state={state} items={shown.items} /> : <Order state={state} />}
        </div>
        <Count shown={shown} items={items} isSearch={isSearch} state={state} />
        {isOld && <button class="chip renew" onClick={renew}>The gallery has changed. Show it as it is now</button>}
        {shown.progress && <Progressing text="Putting together what looks alike" progress={shown.progress} />}
        {shown.error
          ? shown.error.message !== filterError && <p class="wrong-text" role="alert">{shown.error.message}</p>
          : <Grid
              items={items} gallery={state.gallery} known={known} lines={lines} selected={selection.ids} actions={actions} onEnd={more} waits={shown.waits} label={isSearch ? "Matches" : "The gallery"}
            />}
      </div>
      <Selection selection={selection} items={items} state={state} gallery={gallery} onItems={set} all={shown.items} />
      {state.open !== null && <Large id={state.open} items={items} gallery={gallery} state={state} onLabel={(id, label) => (
        set(shown.items.map((match) => (match.id === id ? { ...match, label } : match)))
      )} />}
    </div>
  );
}

function linesOfSearch(items: Match[]): Line[] {
  const at = lineOf(items);
  if (at === null) return [];
  return [{ at, text: at ? "Below here nothing is likely right" : "Nothing here is likely right" }];
}

function linesOfClusters(items: Match[], starts: Map<string, number>): Line[] {
  if (!starts.size) return [];
  return items.flatMap(({ id }, at) => {
    const size = starts.get(id);
    return size === undefined ? [] : [{ at, text: size > 1 ? `${numberText(size)} alike` : "1 picture" }];
  });
}

function Count({ shown, items, isSearch, state }: { shown: Shown; items: Match[]; isSearch: boolean; state: State }) {
  let text = "";
  if (shown.error) text = "";
  else if (shown.progress) text = "";
  else if (shown.waits) text = shown.items.length ? "" : "Looking…";
  else if (isSearch) text = `${numberText(items.length)}${shown.isWhole || state.least !== null ? "" : "+"} match${items.length === 1 ? "" : "es"}`;
  else if (shown.total !== null) text = `${numberText(shown.total)} picture${shown.total === 1 ? "" : "s"}`;
  else text = `${numberText(items.length)}${shown.isWhole ? "" : "+"} picture${items.length === 1 ? "" : "s"}`;
  return (
    <div class="count">
      <p role="status" aria-live="polite">{text}</p>
      {state.ids.length > 0 && <button class="chip" onClick={() => change({ ids: [], leftOut: 0 })}>{numberText(state.ids.length)} of the map ✕</button>}
      {state.leftOut > 0 && <p class="soft" role="note">{numberText(state.leftOut)} more were within the line. A smaller line shows them.</p>}
      {isSearch && <label class="check"><input type="checkbox" checked={state.distinct} onChange={() => change({ distinct: !state.distinct })} /> copies as one</label>}
      {shown.milliseconds !== null && <p class="soft">server {shown.milliseconds.toFixed(0)} ms</p>}
    </div>
  );
}

function Order({ state }: { state: State }) {
  return (
    <label class="order">Order{" "}
      <select value={state.order} onChange={(event) => change({ order: (event.target as HTMLSelectElement).value })}>
        {ORDERS.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
      </select>
    </label>
  );
}

/** The label of the query, where it is an image of the gallery: then right and wrong can be framed. */
function useKnownLabel(state: State): string | null {
  const main = mainOf(state);
  const id = main?.kind === "id" && !state.box ? main.key : null;
  const answer = useAnswer(`label ${state.gallery} ${id}`, async () => {
    if (id === null) return null;
    const { label } = await readImage(state.gallery, id);
    return typeof label === "string" ? label : null;
  });
  return id === null || answer.waits ? null : answer.value;
}

/** Put the embedding of a dropped picture into the address, so that it can be shared. */
function useAddressOfFile(state: State, shown: Shown): void {
  const main = mainOf(state);
  const isReady = !shown.waits && !shown.error && main?.kind === "file";
  const box = JSON.stringify(state.box);
  useEffect(() => {
    if (!isReady || !main) return;
    const timer = setTimeout(async () => {
      const embedding = await embeddingOf(state, main).catch(() => null);
      const now = stateNow();
      if (!embedding || mainOf(now)?.key !== main.key || JSON.stringify(now.box) !== box) return;
      change({ examples: now.examples.map((each) => (each.key === main.key ? { ...each, embedding: packed(embedding) } : each)) });
    }, 400);
    return () => clearTimeout(timer);
  }, [isReady, main?.key, box]);
}
