// Labels, folders, sizes and dates to choose from, each with its number of pictures.

import { useState } from "preact/hooks";
import { readCounts, type Count } from "./api";
import { change, useAnswer, useWidth } from "./hooks";
import { textWidth } from "./measure";
import { numberText, visible } from "./names";
import { shortened } from "./rows";
import { FACETS, type Facet, type State } from "./state";
import { whereOf } from "./where";

const TITLES: Record<Facet, string> = { label: "Label", folder: "Folder", size: "Size", date: "Date" };
const SHOWN = 8;
const BESIDE_FOLDER = 75; // the end of a folder's name tells more than its middle

export function Facets({ state, version }: { state: State; version: string }) {
  const chosen = FACETS.reduce((sum, facet) => sum + state.chosen[facet].length, 0);
  const [aside, width] = useWidth<HTMLElement>();
  const [isOpen, setOpen] = useState(() => matchMedia("(min-width: 60rem)").matches);
  return (
    <aside ref={aside} class="facets" aria-label="Narrow by">
      <details open={isOpen} onToggle={(event) => setOpen((event.target as HTMLDetailsElement).open)}>
        <summary>Narrow{chosen ? ` (${chosen})` : ""}</summary>
        {chosen > 0 && <button class="plain" onClick={() => change({ chosen: { label: [], folder: [], size: [], date: [] } })}>Remove all</button>}
        {FACETS.map((facet) => <OneFacet key={facet} facet={facet} state={state} version={version} width={width} />)}
      </details>
    </aside>
  );
}

function OneFacet({ facet, state, version, width }: { facet: Facet; state: State; version: string; width: number }) {
  const [all, setAll] = useState(false);
  const [typed, setTyped] = useState("");
  // what is chosen here does not narrow the list here, else one could not choose a second value
  const where = whereOf({ ...state, chosen: { ...state.chosen, [facet]: [] } });
  const answer = useAnswer(`${state.gallery} ${version} ${where}`, () => readCounts(state.gallery, where));
  const counts = countsFor(facet, answer.value?.[facet] ?? [], state.chosen[facet]);
  if (!counts.length) return null;
  const fits = counts.filter((each) => each.value.toLowerCase().includes(typed.toLowerCase()));
  const shown = all || typed ? fits.slice(0, 500) : fits.slice(0, SHOWN);
  return (
    <fieldset>
      <legend>{TITLES[facet]}</legend>
      {counts.length > SHOWN && <input type="search" class="find" placeholder={`Find among ${counts.length}`} aria-label={`Find a ${facet}`} value={typed} onInput={(event) => setTyped((event.target as HTMLInputElement).value)} />}
      <ul>
        {shown.map((each) => (
          <li key={each.value}>
            <label class="check">
              <input type="checkbox" checked={state.chosen[facet].includes(each.value)} onChange={() => toggle(state, facet, each.value)} />
              <span class="value" title={visible(each.value)}>{each.value ? shownValue(facet, each.value, width - BESIDE_FOLDER) : "no label"}</span>
              <span class="number">{numberText(each.count)}</span>
            </label>
          </li>
        ))}
      </ul>
      {fits.length > SHOWN && !typed && <button class="link" onClick={() => setAll(!all)}>{all ? "Fewer" : `All ${fits.length}`}</button>}
    </fieldset>
  );
}

/** The values to choose from; one that is chosen is among them though nothing has it now. */
function countsFor(facet: Facet, counts: Count[], chosen: string[]): Count[] {
  if (facet === "size") counts = counts.filter((each) => each.count > 0 || chosen.includes(each.value));
  const known = new Set(counts.map((each) => each.value));
  const all = [...chosen.filter((value) => !known.has(value)).map((value) => ({ value, count: 0 })), ...counts];
  return facet === "size" ? all : [...all].sort((a, b) => Number(chosen.includes(b.value)) - Number(chosen.includes(a.value)));
}

function shownValue(facet: Facet, value: string, room: number): string {
  if (facet !== "folder") return visible(value);
  return value === "." ? "top folder" : shortened(visible(value), room, textWidth);
}

function toggle(state: State, facet: Facet, value: string): void {
  const before = state.chosen[facet];
  const after = before.includes(value) ? before.filter((each) => each !== value) : [...before, value];
  change({ chosen: { ...state.chosen, [facet]: after } });
}
