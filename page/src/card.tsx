// A card: the picture, the file's name first and whole, its folder, one line of facts.

import type { Match } from "./api";
import { fileAddress, thumbnailOf } from "./api";
import { Mark } from "./marks";
import { folderWidth } from "./measure";
import { fileOf, percentText, visible } from "./names";
import { Picture } from "./picture";
import { shortened } from "./rows";

export interface CardActions {
  search(match: Match): void;
  open(match: Match): void;
  add?(match: Match, sign: 1 | -1): void;
  select?(index: number, isRange: boolean): void;
}

export interface CardProps {
  match: Match;
  index: number;
  width: number;
  gallery: string;
  known: string | null; // the query's label, where it has one
  selected: boolean;
  active: boolean; // whether Tab reaches it
  word: string | undefined; // what it is
  actions: CardActions;
}

export function Card({ match, index, width, gallery, known, selected, active, actions, word }: CardProps) {
  const name = visible(fileOf(match.path));
  const folder = visible(match.folder);
  const verdict = known === null || match.label === null ? "" : match.label === known ? "right" : "wrong";
  const tab = active ? 0 : -1;
  return (
    <div
      class={`card ${verdict} ${selected ? "selected" : ""}`} role="gridcell" tabIndex={tab} data-index={index}
      aria-selected={actions.select ? selected : undefined} aria-label={labelOf(match, name, verdict)}
    >
      <div class="frame">
        <button class="shot" tabIndex={-1} title="Search for what looks like this" onClick={() => actions.search(match)}>
          <Picture path={thumbnailOf(gallery, match.id, 384)} alt={`${name}: search for what looks like it`} />
        </button>
        {word && <span class="word">{word}</span>}
        {actions.select && (
          <input
            type="checkbox" class="pick" tabIndex={tab} checked={selected} aria-label={`Select ${name}`}
            onClick={(event) => actions.select?.(index, event.shiftKey)}
          />
        )}
        <div class="deeds">
          <button tabIndex={tab} title="Large" aria-label={`Show ${name} large`} onClick={() => actions.open(match)}><Mark name="large" /></button>
          <button tabIndex={tab} title="More like this" aria-label={`More like ${name}`} onClick={() => actions.search(match)}><Mark name="search" /></button>
          {actions.add && <>
            <button tabIndex={tab} title="Also like this" aria-label={`Also like ${name}`} onClick={() => actions.add?.(match, 1)}><Mark name="like" /></button>
            <button tabIndex={tab} title="Less like this" aria-label={`Less like ${name}`} onClick={() => actions.add?.(match, -1)}><Mark name="unlike" /></button>
          </>}
        </div>
      </div>
      <a class="name" tabIndex={tab} href={fileAddress(gallery, match.id)} target="_blank" rel="noopener">{name}</a>
      <div class="folder" title={visible(match.path)}>{folder ? shortened(folder, width - 2, folderWidth) : "\u00a0"}</div>
      <div class="facts"><Facts match={match} />{verdict && <span class="unseen">, {verdict}</span>}</div>
    </div>
  );
}

function Facts({ match }: { match: Match }) {
  const parts = factsOf(match);
  return <>{parts.map((part, n) => <span key={n} title={part}>{part}</span>)}</>;
}

export function factsOf(match: Match): string[] {
  const parts: string[] = [];
  if (match.probability !== null) parts.push(percentText(match.probability));
  else if (match.score !== null) parts.push(match.score.toFixed(3));
  else if (match.width && match.height) parts.push(`${match.width} × ${match.height}`);
  if (match.label !== null) parts.push(visible(match.label));
  if (match.copies > 1) parts.push(`${match.copies} copies`);
  return parts.length ? parts : ["\u00a0"];
}

function labelOf(match: Match, name: string, verdict: string): string {
  return [name, ...factsOf(match), verdict].filter((part) => part.trim()).join(", ");
}
