// The box for a filter: it completes columns and values, and shows what is wrong in place.

import { useEffect, useRef, useState } from "preact/hooks";
import { browse, readCounts, type Column } from "./api";
import { complete, type Offer } from "./completion";
import { change, useAnswer } from "./hooks";
import { visible } from "./names";
import type { State } from "./state";

const FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"];

/** What is wrong with the filter in the address, "" where nothing is. */
export function useFilterError(state: State): string {
  const check = useAnswer(`check ${state.gallery} ${state.where}`, async (signal) => {
    if (state.where.trim()) await browse(state.gallery, state.where, "", null, 1, signal);
  });
  return check.error?.status === 422 ? check.error.message : "";
}

interface Offering {
  text: string;
  offers: Offer[];
  at: number; // the offer that the arrow keys are on, -1 for none
  input: { current: HTMLInputElement | null };
  type(value: string, place: number): void;
  look(): void;
  put(offer: Offer): void;
  close(): void;
  apply(): void;
  onKeyDown(event: KeyboardEvent): void;
}

/** What is typed, and what may follow it. */
function useOffers(state: State, columns: Column[]): Offering {
  const [text, setText] = useState(state.where);
  const [offers, setOffers] = useState<Offer[]>([]);
  const [at, setAt] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const valuesOf = useValues(state.gallery);
  useEffect(() => setText(state.where), [state.where]);

  function offer(value: string, place: number): void {
    setOffers(complete(value, place, columns, valuesOf));
    setAt(-1);
  }
  const type = (value: string, place: number) => {
    setText(value);
    offer(value, place);
  };
  const look = () => offer(text, input.current?.selectionStart ?? text.length);
  const close = () => setOffers([]);
  const apply = () => {
    close();
    change({ where: text.trim() });
  };
  function put(chosen: Offer): void {
    const after = text.slice(chosen.to).replace(/^['"]/, "");
    const place = chosen.from + chosen.text.length + 1;
    type(`${text.slice(0, chosen.from)}${chosen.text} ${after}`, place);
    setTimeout(() => input.current?.setSelectionRange(place, place));
    input.current?.focus();
  }
  function onKeyDown(event: KeyboardEvent): void {
    const chosen = offers[at];
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!offers.length) return look();
      const step = event.key === "ArrowDown" ? 1 : -1;
      setAt((at + step + offers.length + (at < 0 && step < 0 ? 1 : 0)) % offers.length);
    } else if (event.key === "Enter" || (event.key === "Tab" && chosen)) {
      if (chosen) put(chosen);
      else apply();
    } else if (event.key === "Escape" && offers.length) close();
    else return;
    event.preventDefault();
  }
  return { text, offers, at, input, type, look, put, close, apply, onKeyDown };
}

/** The values that a column has. */
function useValues(gallery: string): (column: string, typed: string) => string[] {
  const counts = useAnswer(`values ${gallery}`, () => readCounts(gallery, ""));
  return (column, typed) => {
    const all = column === "label" ? counts.value?.label.map((each) => each.value)
      : column === "path" ? counts.value?.folder.map((each) => `${each.value}/%`)
      : column === "facts.format" ? FORMATS
      : column === "facts.alpha" ? ["true", "false"] : [];
    return (all ?? []).filter((value) => value && value.toLowerCase().includes(typed.toLowerCase()));
  };
}

export function FilterBox({ state, error, columns }: { state: State; error: string; columns: Column[] }) {
  const offering = useOffers(state, columns);
  const { text, offers, at, input } = offering;
  return (
    <div class="filter">
      <div class="field">
        <input
          ref={input} type="text" role="combobox" aria-label="Filter" aria-expanded={offers.length > 0} aria-controls="offers"
          aria-autocomplete="list" aria-activedescendant={at >= 0 ? `offer${at}` : undefined}
          aria-invalid={error ? true : undefined} aria-describedby={error ? "filter-error" : undefined}
          placeholder="Filter, such as width >= 640" autocomplete="off" autocapitalize="off" spellcheck={false} value={text}
          onInput={(event) => {
            const { value, selectionStart } = event.target as HTMLInputElement;
            offering.type(value, selectionStart ?? value.length);
          }}
          onFocus={offering.look} onBlur={offering.close} onKeyDown={offering.onKeyDown}
        />
        <button class="plain" onClick={offering.apply} disabled={text.trim() === state.where}>Filter</button>
        {state.where && <button class="plain" onClick={() => change({ where: "" })}>Remove</button>}
        <ul id="offers" role="listbox" aria-label="What may follow" hidden={!offers.length}>
          {offers.map((offer, n) => (
            <li key={offer.text} id={`offer${n}`} role="option" aria-selected={n === at} onMouseDown={(event: MouseEvent) => {
              event.preventDefault(); // the focus stays in the box
              offering.put(offer);
            }}>{visible(offer.text)}</li>
          ))}
        </ul>
      </div>
      {error && <p id="filter-error" class="wrong-text" role="alert">{error}</p>}
    </div>
  );
}
