// What facets ask for, in the words of the gallery's filters.

import type { Chosen, State } from "./state";

export const SIZES: Record<string, [number, number]> = {
  "below 100 kB": [0, 100_000],
  "100 kB to 1 MB": [100_000, 1_000_000],
  "1 to 10 MB": [1_000_000, 10_000_000],
  "10 MB and more": [10_000_000, Number.MAX_SAFE_INTEGER],
};

/** The name of the size that begins at so many bytes. */
export function sizeFrom(least: number | null): string | null {
  return Object.keys(SIZES).find((name) => SIZES[name]?.[0] === least) ?? null;
}

export function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Match paths in a folder, not in those below it; what LIKE would take for a pattern is made ordinary. */
export function inFolder(folder: string): string {
  if (folder === ".") return "NOT path LIKE '%/%'";
  const plain = folder.replace(/[\\%_]/g, (sign) => `\\${sign}`).replace(/\/$/, "");
  return `path LIKE ${quote(`${plain}/%`)} AND NOT path LIKE ${quote(`${plain}/%/%`)}`;
}

/** A date such as 2024, 2024-05 or 2024-05-17 as nanoseconds since 1970: from, and until. */
export function nanosecondsOf(date: string): [bigint, bigint] | null {
  const found = /^(\d{4})(?:-(\d\d))?(?:-(\d\d))?$/.exec(date);
  if (!found) return null;
  const [year, month, day] = [Number(found[1]), Number(found[2] ?? 1), Number(found[3] ?? 1)];
  const from = Date.UTC(year, month - 1, day);
  const until = found[3] ? Date.UTC(year, month - 1, day + 1)
    : found[2] ? Date.UTC(year, month, 1) : Date.UTC(year + 1, 0, 1);
  return [BigInt(from) * 1_000_000n, BigInt(until) * 1_000_000n];
}

export function whereOfChosen(chosen: Chosen): string {
  return [
    either(labels(chosen.label)),
    either(chosen.folder.map(inFolder)),
    either(chosen.size.flatMap((name) => {
      const range = SIZES[name];
      return range ? [`size >= ${range[0]} AND size < ${range[1]}`] : [];
    })),
    either(chosen.date.flatMap((date) => {
      const range = nanosecondsOf(date);
      return range ? [`mtime_ns >= ${range[0]} AND mtime_ns < ${range[1]}`] : [];
    })),
  ].filter(Boolean).join(" AND ");
}

export function whereOf(state: State): string {
  const parts = [state.where.trim(), whereOfChosen(state.chosen)].filter(Boolean);
  if (state.ids.length) parts.push(`id IN (${state.ids.join(",")})`);
  return parts.length > 1 ? parts.map((part) => `(${part})`).join(" AND ") : parts[0] ?? "";
}

function labels(chosen: string[]): string[] {
  const named = chosen.filter(Boolean);
  const parts = named.length ? [`label IN (${named.map(quote).join(", ")})`] : [];
  return chosen.includes("") ? [...parts, "label IS NULL"] : parts;
}

function either(parts: string[]): string {
  return parts.length > 1 ? `(${parts.map((part) => `(${part})`).join(" OR ")})` : parts[0] ?? "";
}
