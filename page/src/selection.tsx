// Many pictures at once: as CSV, their paths, a label for all, and as a zip.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { labelImage, readArchive, type Gallery, type Match } from "./api";
import { copyText, download } from "./files";
import { asRefusal } from "./hooks";
import { csvOf, numberText } from "./names";
import type { State } from "./state";

const MOST_ZIPPED = 1000; // files that the service packs

export interface Selected {
  ids: Set<string>;
  toggle(index: number, isRange: boolean): void;
  replace(ids: Iterable<string>): void;
}

export function useSelection(items: Match[]): Selected {
  const [ids, setIds] = useState<Set<string>>(new Set());
  const now = useRef({ items, last: 0 });
  now.current.items = items;
  const toggle = useCallback((index: number, isRange: boolean) => {
    setIds((before) => {
      const after = new Set(before);
      const [from, to] = isRange ? [Math.min(index, now.current.last), Math.max(index, now.current.last)] : [index, index];
      const id = now.current.items[index]?.id ?? "";
      const adds = isRange || !before.has(id);
      for (const match of now.current.items.slice(from, to + 1)) {
        if (adds) after.add(match.id);
        else after.delete(match.id);
      }
      now.current.last = index;
      return after;
    });
  }, []);
  const replace = useCallback((given: Iterable<string>) => setIds(new Set(given)), []);
  return useMemo(() => ({ ids, toggle, replace }), [ids]);
}

interface SelectionProps {
  selection: Selected;
  items: Match[];
  all: Match[];
  state: State;
  gallery: Gallery;
  onItems(items: Match[]): void;
}

export function Selection({ selection, items, all, state, gallery, onItems }: SelectionProps) {
  const [said, setSaid] = useState("");
  const known = useRef(new Map<string, Match>());
  for (const match of all) if (selection.ids.has(match.id)) known.current.set(match.id, match);
  const chosen = [...selection.ids].flatMap((id) => known.current.get(id) ?? []);
  useEffect(() => setSaid(""), [selection.ids.size]);
  if (!selection.ids.size) return null;
  const says = (work: Promise<string>) => void work.then(setSaid, (error: unknown) => setSaid(asRefusal(error).message));
  const paths = () => copyText(chosen.map((match) => match.path).join("\n")).then(() => "Paths copied");
  const label = async (given: string | null) => {
    const done = await labelAll(state.gallery, chosen, given, setSaid);
    onItems(all.map((match) => (selection.ids.has(match.id) ? { ...match, label: given } : match)));
    return done;
  };
  return (
    <div class="selection" role="region" aria-label="Selection">
      <strong>{numberText(selection.ids.size)} selected</strong>
      <button class="plain" onClick={() => selection.replace(items.map((match) => match.id))}>All {numberText(items.length)} shown</button>
      <button class="plain" onClick={() => selection.replace([])}>None</button>
      <button class="plain" onClick={() => download("matches.csv", csvOfMatches(chosen), "text/csv")}>CSV</button>
      <button class="plain" onClick={() => says(paths())}>Copy paths</button>
      {chosen.length <= MOST_ZIPPED && <button class="plain" onClick={() => says(zipAll(state.gallery, chosen, setSaid))}>Zip</button>}
      {gallery.canWrite && <LabelMany onLabel={(given) => says(label(given))} />}
      <span role="status">{said}</span>
    </div>
  );
}

function LabelMany({ onLabel }: { onLabel(label: string | null): void }) {
  const [label, setLabel] = useState<string | null>(null);
  if (label === null) return <button class="plain" onClick={() => setLabel("")}>Set label</button>;
  return (
    <form class="inline" onSubmit={(event) => {
      event.preventDefault();
      onLabel(label.trim() || null);
      setLabel(null);
    }}>
      <input aria-label="Label" placeholder="none" value={label} ref={focusOnce} onInput={(event) => setLabel((event.target as HTMLInputElement).value)} />
      <button class="plain">Set</button>
      <button class="plain" type="button" onClick={() => setLabel(null)}>Cancel</button>
    </form>
  );
}

async function labelAll(gallery: string, chosen: Match[], label: string | null, say: (text: string) => void): Promise<string> {
  for (const [n, match] of chosen.entries()) {
    say(`Label ${n + 1} of ${chosen.length}…`);
    await labelImage(gallery, match.id, label);
  }
  return `${numberText(chosen.length)} labelled`;
}

async function zipAll(gallery: string, chosen: Match[], say: (text: string) => void): Promise<string> {
  say("Packing…");
  download("pictures.zip", await readArchive(gallery, chosen.map((match) => match.id)));
  return "";
}

/** The button that opened the field is gone, and the focus with it. */
function focusOnce(input: HTMLInputElement | null): void {
  if (input && document.activeElement === document.body) input.focus();
}

function csvOfMatches(matches: Match[]): string {
  return csvOf(
    ["id", "path", "label", "score", "probability", "width", "height"],
    matches.map((match) => [match.id, match.path, match.label, match.score, match.probability, match.width, match.height]),
  );
}
