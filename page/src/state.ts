// The whole state of the page, and how it stands in the address.
//
// It stands in the fragment, which browsers send to nobody: what one searches for is in no log.

export const VIEWS = ["search", "duplicates", "map", "evaluation", "classes"] as const;
export type View = (typeof VIEWS)[number];

/** A picture that is searched by: a row of the gallery, or a file that was dropped, by its digest. */
export interface Example {
  kind: "id" | "file";
  key: string;
  sign: 1 | -1;
  embedding?: string; // of a file, for who opens the address without having the file
}

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** Chosen values of a facet; a label "" stands for none. */
export interface Chosen {
  label: string[];
  folder: string[];
  size: string[];
  date: string[];
}

export interface State {
  view: View;
  gallery: string;
  examples: Example[];
  box: Box | null;
  where: string;
  chosen: Chosen;
  least: number | null;
  order: string;
  distinct: boolean;
  open: string | null;
  ids: string[];
  leftOut: number; // of a lasso, beyond ids
}

export const FACETS = ["label", "folder", "size", "date"] as const;
export type Facet = (typeof FACETS)[number];

export function emptyState(): State {
  return {
    view: "search", gallery: "", examples: [], box: null, where: "",
    chosen: { label: [], folder: [], size: [], date: [] },
    least: null, order: "", distinct: false, open: null, ids: [], leftOut: 0,
  };
}

export function formatState(state: State): string {
  const words = new URLSearchParams();
  if (state.view !== "search") words.set("view", state.view);
  if (state.gallery) words.set("gallery", state.gallery);
  for (const example of state.examples) {
    words.append(example.sign > 0 ? "like" : "unlike", wordOf(example));
  }
  if (state.box) words.set("box", [state.box.x, state.box.y, state.box.w, state.box.h].join(","));
  if (state.where) words.set("where", state.where);
  for (const facet of FACETS) for (const value of state.chosen[facet]) words.append(facet, value);
  if (state.least !== null) words.set("least", String(state.least));
  if (state.order) words.set("order", state.order);
  if (state.distinct) words.set("distinct", "1");
  if (state.ids.length) words.set("ids", formatIds(state.ids));
  if (state.ids.length && state.leftOut) words.set("left", String(state.leftOut));
  if (state.open !== null) words.set("open", state.open);
  const text = words.toString();
  return text ? `#${text}` : "#";
}

/** Read an address; what it does not understand is left out, since others may have written it. */
export function parseState(fragment: string): State {
  const words = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = emptyState();
  const view = words.get("view") as View | null;
  if (view && VIEWS.includes(view)) state.view = view;
  state.gallery = words.get("gallery") ?? "";
  for (const [name, value] of words) {
    if (name !== "like" && name !== "unlike") continue;
    const found = /^(?:id\.(\d{1,19})|file\.([0-9a-f]{64})(?:\.([\w-]{2,22000}))?)$/.exec(value);
    if (!found) continue;
    const sign = name === "like" ? 1 : -1;
    if (found[1] !== undefined) state.examples.push({ kind: "id", key: found[1], sign });
    else {
      const example: Example = { kind: "file", key: found[2] ?? "", sign };
      if (found[3]) example.embedding = found[3];
      state.examples.push(example);
    }
  }
  state.box = parseBox(words.get("box"));
  state.where = words.get("where") ?? "";
  for (const facet of FACETS) state.chosen[facet] = words.getAll(facet);
  const least = Number.parseFloat(words.get("least") ?? "");
  if (Number.isFinite(least)) state.least = least;
  const order = words.get("order") ?? "";
  if (/^-?[a-z_]{1,32}$/.test(order)) state.order = order;
  state.distinct = words.get("distinct") === "1";
  state.ids = parseIds(words.get("ids") ?? "");
  const left = words.get("left") ?? "";
  if (state.ids.length && /^\d{1,9}$/.test(left)) state.leftOut = Number(left);
  const open = words.get("open");
  if (open && /^\d{1,19}$/.test(open)) state.open = open;
  return state;
}

function wordOf(example: Example): string {
  return [example.kind, example.key, example.embedding].filter((part) => part !== undefined).join(".");
}

export function parseBox(text: string | null): Box | null {
  const parts = (text ?? "").split(",").map((part) => (/^\d{1,7}$/.test(part) ? Number(part) : NaN));
  const [x, y, w, h] = parts;
  if (parts.length !== 4 || parts.some(Number.isNaN)) return null;
  return w && h ? { x: x ?? 0, y: y ?? 0, w, h } : null;
}

/** Ids of a lasso: sorted, as steps to the next in base 36, so that thousands fit an address. */
export function formatIds(ids: string[]): string {
  const sorted = ids.map(BigInt).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  let last = 0n;
  return sorted.map((id) => {
    const step = (id - last).toString(36);
    last = id;
    return step;
  }).join(".");
}

export function parseIds(text: string): string[] {
  if (!/^[0-9a-z]{1,13}(\.[0-9a-z]{1,13})*$/.test(text)) return [];
  let last = 0n;
  return text.split(".").map((step) => {
    let value = 0n;
    for (const digit of step) value = value * 36n + BigInt(Number.parseInt(digit, 36));
    last += value;
    return last.toString();
  });
}

/** Whether going from one to the other is a step of its own for the button Back. */
export function isStep(from: State, to: State): boolean {
  const coarse = (state: State) => formatState({
    ...state, least: null, examples: state.examples.map(({ kind, key, sign }) => ({ kind, key, sign })),
  });
  return coarse(from) !== coarse(to);
}
