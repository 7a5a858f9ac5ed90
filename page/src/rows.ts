// Where the cards of a grid stand, worked out from the text on them, so that nothing jumps.

export interface Row {
  kind: "cards" | "line";
  start: number; // of the first card
  end: number;
  top: number;
  height: number;
}

export interface Rows {
  rows: Row[];
  height: number;
}

/**
 * Lay cards into rows; a line across the grid stands before each card of lines, which ascend.
 * heightOf: of the part of a card that differs, in pixels; a row is as high as its highest card.
 */
export function layRows(
  count: number, columns: number, gap: number, heightOf: (index: number) => number,
  lines: readonly number[], lineHeight: number,
): Rows {
  const rows: Row[] = [];
  let top = 0;
  let n = 0;
  for (let start = 0; start < count || start === lines[n];) {
    if (start === lines[n]) {
      rows.push({ kind: "line", start, end: start, top, height: lineHeight });
      top += lineHeight + gap;
      n++;
      continue;
    }
    const until = Math.min(lines[n] ?? count, count);
    const end = Math.min(start + columns, until);
    let height = 0;
    for (let index = start; index < end; index++) height = Math.max(height, heightOf(index));
    rows.push({ kind: "cards", start, end, top, height });
    top += height + gap;
    start = end;
  }
  return { rows, height: Math.max(0, top - gap) };
}

/** The first row that ends below a height. */
export function rowAt(rows: Row[], height: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = rows[middle] as Row;
    if (row.top + row.height < height) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The row of a card, -1 where it has none: asked for each time that one scrolls. */
export function rowOf(rows: Row[], card: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as Row).start <= card) low = middle + 1;
    else high = middle;
  }
  const row = rows[low - 1]; // a line stands before the cards that begin where it does
  return row && row.kind === "cards" && card < row.end ? low - 1 : -1;
}

/** The card above or below another, in the same column where there is one. */
export function cardBeside(rows: Row[], card: number, step: number): number {
  const from = rowOf(rows, card);
  const cards = rows.filter((row) => row.kind === "cards");
  const at = cards.indexOf(rows[from] as Row);
  const to = cards[Math.min(cards.length - 1, Math.max(0, at + step))];
  if (at < 0 || !to) return card;
  return Math.min(to.end - 1, to.start + (card - (rows[from] as Row).start));
}

/** How many lines a name takes where it is broken at any place. */
export function linesOf(text: string, width: number, measure: (text: string) => number): number {
  if (measure(text) <= width) return 1;
  let lines = 1;
  let line = "";
  for (const letter of text) {
    if (line && measure(line + letter) > width) {
      lines++;
      line = letter;
    } else line += letter;
  }
  return lines;
}

/** A text without its middle, where it is wider than there is room. */
export function shortened(text: string, width: number, measure: (text: string) => number): string {
  if (measure(text) <= width) return text;
  const letters = [...text];
  let [low, high] = [0, letters.length];
  const kept = (n: number) =>
    `${letters.slice(0, Math.ceil(n / 2)).join("")}…${letters.slice(letters.length - Math.floor(n / 2)).join("")}`;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(kept(middle)) <= width) low = middle;
    else high = middle - 1;
  }
  return kept(low);
}
