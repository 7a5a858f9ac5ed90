// Many pictures at once: as CSV, their paths, a label for all, and as a zip.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { labelImage, readContent, type Gallery, type Match } from "./api";
import { copyText, download } from "./files";
import { asRefusal } from "./hooks";
import { csvOf, fileOf, numberText } from "./names";
import type { State } from "./state";
import { MOST_ZIPPED_BYTES, MOST_ZIPPED_FILES, zipOf } from "./zip";

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
  const [label, setLabel] = useState<string | null>(null);
  const known = useRef(new Map<string, Match>());
  for (const match of all) if (selection.ids.has(match.id)) known.current.set(match.id, match);
  const chosen = [...selection.ids].flatMap((id) => known.current.get(id) ?? []);
  useEffect(() => setSaid(""), [selection.ids.size]);
  if (!selection.ids.size) return null;

  async function setLabels(): Promise<void> {
    const given = label === "" ? null : label;
    try {
      for (const [n, match] of chosen.entries()) {
        setSaid(`Label ${n + 1} of ${chosen.length}…`);
        await labelImage(state.gallery, match.id, given);
      }
      onItems(all.map((match) => (selection.ids.has(match.id) ? { ...match, label: given } : match)));
      setSaid(`${numberText(chosen.length)} labelled`);
      setLabel(null);
    } catch (error) {
      setSaid(asRefusal(error).message);
    }
  }

  async function zip(): Promise<void> {
    try {
      const files: { name: string; content: Uint8Array }[] = [];
      let bytes = 0;
      for (const [n, match] of chosen.slice(0, MOST_ZIPPED_FILES).entries()) {
        setSaid(`Picture ${n + 1} of ${chosen.length}…`);
        const content = new Uint8Array(await (await readContent(state.gallery, match.id)).arrayBuffer());
        bytes += content.length;
        if (bytes > MOST_ZIPPED_BYTES) throw new Error("These are more than 500 MB. Select fewer.");
        files.push({ name: `${match.id} ${fileOf(match.path)}`, content });
      }
      download("pictures.zip", zipOf(files), "application/zip");
      setSaid("");
    } catch (error) {
      setSaid(asRefusal(error).message);
    }
  }

  return (
    <div class="selection" role="region" aria-label="Selection">
      <strong>{numberText(selection.ids.size)} selected</strong>
      <button class="plain" onClick={() => selection.replace(items.map((match) => match.id))}>All {numberText(items.length)} shown</button>
      <button class="plain" onClick={() => selection.replace([])}>None</button>
      <button class="plain" onClick={() => download("matches.csv", csvOfMatches(chosen), "text/csv")}>CSV</button>
      <button class="plain" onClick={() => {
        copyText(chosen.map((match) => match.path).join("\n")).then(() => setSaid("Paths copied"), () => setSaid("The browser does not let the page copy."));
      }}>Copy paths</button>
      {chosen.length <= MOST_ZIPPED_FILES && <button class="plain" onClick={() => void zip()}>Zip</button>}
      {gallery.canWrite && (label === null
        ? <button class="plain" onClick={() => setLabel("")}>Set label</button>
        : <form class="inline" onSubmit={(event) => {
            event.preventDefault();
            void setLabels();
          }}>
            <input aria-label="Label" placeholder="none" value={label} ref={focusOnce} onInput={(event) => setLabel((event.target as HTMLInputElement).value)} />
            <button class="plain">Set</button>
            <button class="plain" type="button" onClick={() => setLabel(null)}>Cancel</button>
          </form>)}
      <span role="status">{said}</span>
    </div>
  );
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
