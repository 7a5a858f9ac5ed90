// Which matches are good enough: by probability where the gallery has one, else by score.

import type { Match } from "./api";
import { change } from "./hooks";
import { percentText } from "./names";
import type { State } from "./state";

const LIKELY = 0.5;

export function valueOf(match: Match): number {
  return match.probability ?? match.score ?? 0;
}

/** The first match that is not likely right; null where all are, or where nobody knows. */
export function lineOf(items: Match[]): number | null {
  if (!items.some((match) => match.probability !== null)) return null;
  const at = items.findIndex((match) => (match.probability ?? 0) < LIKELY);
  return at < 0 ? null : at;
}

export function Threshold({ state, items }: { state: State; items: Match[] }) {
  const isProbability = items.some((match) => match.probability !== null);
  const values = items.map(valueOf);
  const least = isProbability ? 0 : Math.floor(100 * Math.min(0, ...values)) / 100;
  const value = state.least ?? least;
  const word = isProbability ? "Probability" : "Score";
  const text = isProbability ? percentText(value) : value.toFixed(2);
  return (
    <label class="threshold">
      <span>{word} at least <output>{text}</output></span>
      <input
        type="range" min={least} max={1} step={0.01} value={value} aria-label={`Least ${word.toLowerCase()}`} aria-valuetext={text}
        onInput={(event) => {
          const given = Number((event.target as HTMLInputElement).value);
          change({ least: given <= least ? null : given });
        }}
      />
    </label>
  );
}
