import { expect, test } from "vitest";
import { complete } from "../src/completion";
import { cell, csvOf, fileOf, folderOf, shellWord } from "../src/names";
import { cardBeside, layRows, linesOf, rowAt, rowOf, shortened } from "../src/rows";
import { isWithin } from "../src/lasso";
import { emptyState, formatState, parseState } from "../src/state";
import { packed, unpacked } from "../src/vector";
import { inFolder, nanosecondsOf, SIZES, sizeFrom, whereOf } from "../src/where";

const width = (text: string) => text.length;

test("the state comes back from its address", () => {
  const state = {
    ...emptyState(), gallery: "cars & parts", where: "label = 'a#b'", least: 0.25, order: "-date", open: "7",
    examples: [{ kind: "id" as const, key: "12", sign: 1 as const }, { kind: "id" as const, key: "3", sign: -1 as const }],
    box: { x: 1, y: 2, w: 30, h: 40 }, distinct: true, ids: ["5", "70000", "12345678901234567"],
    chosen: { label: ["", "x,y"], folder: ["a/b"], size: [], date: ["2024-05"] },
  };
  expect(parseState(formatState(state))).toEqual(state);
});

test("an address that others wrote breaks nothing", () => {
  const state = parseState("#view=../x&like=file.zz&like=id.-1&box=1,2,x,4&least=nan&open=a&order=';&ids=_");
  expect(state).toEqual(emptyState());
});

test("facets become a filter", () => {
  const state = emptyState();
  state.where = "width > 5";
  state.chosen.label = ["it's", ""];
  expect(whereOf(state)).toBe("(width > 5) AND (((label IN ('it''s')) OR (label IS NULL)))");
  expect(inFolder("a_b/50%")).toBe("path LIKE 'a\\_b/50\\%/%' AND NOT path LIKE 'a\\_b/50\\%/%/%'");
  expect(nanosecondsOf("2024-12")).toEqual([1733011200000000000n, 1735689600000000000n]);
});

test("rows are laid around the line", () => {
  const { rows, height } = layRows(5, 2, 10, () => 100, [3], 20);
  expect(rows.map((row) => [row.kind, row.start, row.end, row.top])).toEqual([
    ["cards", 0, 2, 0], ["cards", 2, 3, 110], ["line", 3, 3, 220], ["cards", 3, 5, 250],
  ]);
  expect(height).toBe(350);
  expect(rowAt(rows, 215)).toBe(2);
  expect(cardBeside(rows, 1, 1)).toBe(2);
  expect(cardBeside(rows, 2, 1)).toBe(3);
});

test("several lines stand where they should", () => {
  const { rows } = layRows(5, 2, 10, () => 100, [0, 1, 4], 20);
  expect(rows.map((row) => [row.kind, row.start, row.end])).toEqual([
    ["line", 0, 0], ["cards", 0, 1], ["line", 1, 1], ["cards", 1, 3], ["cards", 3, 4], ["line", 4, 4], ["cards", 4, 5],
  ]);
});

test("the row of a card is found among lines", () => {
  const { rows } = layRows(5, 2, 10, () => 100, [0, 1, 4], 20);
  const slow = (card: number) => rows.findIndex((row) => row.kind === "cards" && card >= row.start && card < row.end);
  expect([-1, 0, 1, 2, 3, 4, 5, 9].map((card) => rowOf(rows, card))).toEqual([-1, 0, 1, 2, 3, 4, 5, 9].map(slow));
  expect(rowOf([], 0)).toBe(-1);
});

test("names are broken and folders shortened by their width", () => {
  expect(linesOf("abcdefghij", 4, width)).toBe(3);
  expect(shortened("one/two/three/four", 9, width)).toBe("one/…four");
  expect(fileOf("a/b.jpg")).toBe("b.jpg");
  expect(folderOf("b.jpg")).toBe("");
});

test("what leaves the page is quoted", () => {
  expect(cell("=1+1")).toBe("'=1+1");
  expect(csvOf(["a"], [['x"y,z']])).toBe('a\r\n"x""y,z"\r\n');
  expect(shellWord("a'b")).toBe("'a'\\''b'");
});

test("the filter box offers columns, conditions and values", () => {
  const values = (column: string, typed: string) =>
    column === "label" ? ["bolt", "nut's"].filter((value) => value.startsWith(typed)) : [];
  const columns = [{ name: "label", isText: true }, { name: "width", isText: false }];
  const texts = (filter: string) => complete(filter, filter.length, columns, values).map((offer) => offer.text);
  expect(texts("la")).toEqual(["label"]);
  expect(texts("label ")).toContain("IN (");
  expect(texts("label = ")).toEqual(["'bolt'", "'nut''s'"]);
  expect(texts("label = 'nu")).toEqual(["'nut''s'"]);
  expect(texts("label IN ('bolt', ")).toContain("'nut''s'");
  expect(texts("label = 'bolt' ")).toEqual(["AND", "OR"]);
  expect(texts("label = 'bolt' AND wi")).toEqual(["width"]);
});

test("an embedding keeps its direction in an address", () => {
  const embedding = Array.from({ length: 640 }, (_, n) => Math.sin(n * n));
  const back = unpacked(packed(embedding));
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, n) => sum + value * (b[n] ?? 0), 0);
  expect(packed(embedding)).toMatch(/^[\w-]+$/);
  expect(dot(embedding, back) / Math.sqrt(dot(embedding, embedding) * dot(back, back))).toBeGreaterThan(0.9999);
  expect(unpacked("%")).toEqual([]);
});

test("sizes are known by where they begin", () => {
  expect([0, 100_000, 1_000_000, 10_000_000].map(sizeFrom)).toEqual(Object.keys(SIZES));
  expect([5, null].map(sizeFrom)).toEqual([null, null]);
});

test("how many a lasso left out stands in the address", () => {
  const state = { ...emptyState(), ids: ["7", "9"], leftOut: 234 };
  expect(parseState(formatState(state))).toEqual(state);
  expect(parseState("#left=5").leftOut).toBe(0);
});

test("a lasso holds what lies within it", () => {
  const line = [{ x: 0, y: 0 }, { x: 10, y: 0 }, { x: 10, y: 10 }, { x: 5, y: 2 }, { x: 0, y: 10 }];
  expect([{ x: 1, y: 5 }, { x: 5, y: 5 }, { x: 11, y: 1 }].map((spot) => isWithin(line, spot))).toEqual([true, false, false]);
});
