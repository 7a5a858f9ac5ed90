// What the filter box offers: columns, conditions, and values of the column that came before.

import type { Column } from "./api";

const AFTER_COLUMN = ["=", "!=", "<", "<=", ">", ">=", "IN (", "LIKE", "ILIKE", "BETWEEN", "IS NULL", "IS NOT NULL"];
const AFTER_VALUE = ["AND", "OR"];

export interface Offer {
  text: string; // what is put in
  from: number; // the part of the filter that it takes the place of
  to: number;
}

export type ValuesOf = (column: string, typed: string) => string[];

const TOKEN = /'(?:[^']|'')*'?|"(?:[^"]|"")*"?|[A-Za-z_][\w.]*|-?\d+(?:\.\d+)?|<=|>=|!=|<>|[=<>(),]/g;

/** Offer what may stand at a place of a filter. */
export function complete(filter: string, place: number, columns: Column[], valuesOf: ValuesOf): Offer[] {
  const before = filter.slice(0, place);
  const tokens = [...before.matchAll(TOKEN)].map((found) => ({ text: found[0], at: found.index }));
  const last = tokens.at(-1);
  const isOpen = last !== undefined && last.at + last.text.length === place && !/^[(),]$|^[=<>!]+$/.test(last.text)
    && !isClosed(last.text);
  const typed = isOpen ? last.text : "";
  const from = isOpen ? last.at : place;
  const past = (isOpen ? tokens.slice(0, -1) : tokens).map((token) => token.text);
  const offers = candidates(past, typed, columns, valuesOf);
  return offers.slice(0, 12).map((text) => ({ text, from, to: place }));
}

function candidates(past: string[], typed: string, columns: Column[], valuesOf: ValuesOf): string[] {
  const previous = past.at(-1)?.toLowerCase() ?? "";
  const fits = (words: string[]) =>
    words.filter((word) => word.toLowerCase().startsWith(typed.toLowerCase()) && word !== typed);
  if (["", "and", "or", "not"].includes(previous) || (previous === "(" && past.at(-2)?.toLowerCase() !== "in")) {
    return fits(columns.map((each) => each.name));
  }
  const column = columnBefore(past, columns);
  if (column && /^([=<>!]+|like|ilike|between|\(|,)$/.test(previous)) {
    const bare = typed.replace(/^['"]/, "").replaceAll("''", "'");
    return valuesOf(column.name, bare)
      .map((value) => (column.isText ? `'${value.replaceAll("'", "''")}'` : value))
      .filter((value) => value !== typed);
  }
  if (columns.some((each) => each.name === previous)) return fits(AFTER_COLUMN);
  return fits(AFTER_VALUE);
}

function columnBefore(past: string[], columns: Column[]): Column | null {
  for (const word of [...past].reverse()) {
    const found = columns.find((each) => each.name === word.toLowerCase());
    if (found) return found;
    if (/^(and|or)$/i.test(word)) return null;
  }
  return null;
}

function isClosed(token: string): boolean {
  return /^'(?:[^']|'')*'$|^"(?:[^"]|"")*"$/.test(token);
}
