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

export function FilterBox({ state, error, columns }: { state: State; error: string; columns: Column[] }) {
  const [text, setText] = useState(state.where);
  const [offers, setOffers] = useState<Offer[]>([]);
  const [at, setAt] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => setText(state.where), [state.where]);
  const counts = useAnswer(`values ${state.gallery}`, () => readCounts(state.gallery, ""));
  function valuesOf(column: string, typed: string): string[] {
    const all = column === "label" ? counts.value?.label.map((each) => each.value)
      : column === "path" ? counts.value?.folder.map((each) => `${each.value}/%`)
      : column === "facts.format" ? FORMATS
      : column === "facts.alpha" ? ["true", "false"] : [];
    return (all ?? []).filter((value) => value && value.toLowerCase().includes(typed.toLowerCase()));
  }

  function look(value: string, place: number): void {
    setOffers(complete(value, place, columns, valuesOf));
    setAt(-1);
  }

  function put(offer: Offer): void {
    const after = text.slice(offer.to).replace(/^['"]/, "");
    const next = `${text.slice(0, offer.from)}${offer.text} ${after}`;
    setText(next);
    const place = offer.from + offer.text.length + 1;
    look(next, place);
    setTimeout(() => input.current?.setSelectionRange(place, place));
    input.current?.focus();
  }

  function onKeyDown(event: KeyboardEvent): void {
    const offer = offers[at];
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!offers.length) return look(text, input.current?.selectionStart ?? text.length);
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      setAt((at + step + offers.length + (at < 0 && step < 0 ? 1 : 0)) % offers.length);
    } else if (event.key === "Enter" || (event.key === "Tab" && offer)) {
      event.preventDefault();
      if (offer) put(offer);
      else apply();
    } else if (event.key === "Escape" && offers.length) {
      event.stopPropagation();
      setOffers([]);
    }
  }

  function apply(): void {
    setOffers([]);
    change({ where: text.trim() });
  }

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
            setText(value);
            look(value, selectionStart ?? value.length);
          }}
          onFocus={() => look(text, input.current?.selectionStart ?? text.length)}
          onBlur={() => setOffers([])} onKeyDown={onKeyDown}
        />
        <button class="plain" onClick={apply} disabled={text.trim() === state.where}>Filter</button>
        {state.where && <button class="plain" onClick={() => change({ where: "" })}>Remove</button>}
        <ul id="offers" role="listbox" aria-label="What may follow" hidden={!offers.length}>
          {offers.map((offer, n) => (
            <li key={offer.text} id={`offer${n}`} role="option" aria-selected={n === at} onMouseDown={(event: MouseEvent) => {
              event.preventDefault(); // the focus stays in the box
              put(offer);
            }}>{visible(offer.text)}</li>
          ))}
        </ul>
      </div>
      {error && <p id="filter-error" class="wrong-text" role="alert">{error}</p>}
    </div>
  );
}
