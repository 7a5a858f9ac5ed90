// How far work is that the service does in the background.

import type { Progress } from "./api";
import { numberText, visible } from "./names";

export function Progressing({ text, progress }: { text: string; progress: Progress | null }) {
  const { done, total } = progress ?? { done: 0, total: 0 };
  return (
    <p class="indexing" role="status">
      <span>{text}{progress?.text ? ` (${visible(progress.text)})` : ""}: {total ? `${numberText(done)} of ${numberText(total)}` : done ? numberText(done) : "…"}</span>
      <progress value={total ? done : undefined} max={total || undefined} aria-label={text} />
    </p>
  );
}
