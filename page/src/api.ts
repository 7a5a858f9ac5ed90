// The service, as the page asks it. All that the page knows of its answers stands here.

import { folderOf } from "./names";
import type { Box } from "./state";
import { sizeFrom } from "./where";

export interface Match {
  id: string;
  path: string;
  folder: string; // as it is shown: relative to the folder that holds the gallery, where it lies there
  score: number | null;
  probability: number | null;
  label: string | null;
  width: number | null;
  height: number | null;
  copies: number;
}

export interface Gallery {
  name: string;
  names: string[]; // of all galleries
  version: string;
  images: number;
  failed: number;
  labels: number;
  confidence: string; // "" without probabilities
  isWritten: boolean; // whether it is indexed now
  indexing: Progress | null; // how far that is, once it has said so
  columns: Column[]; // of filters
  canWrite: boolean;
  canClassify: boolean;
}

export interface Column {
  name: string;
  isText: boolean;
}

export interface Progress {
  text: string;
  done: number;
  total: number;
}

export interface Page {
  items: Match[];
  next: string | null;
  total: number | null;
  progress: Progress | null; // while the order is worked out
  starts: Map<string, number>; // the first image of each cluster -> how many it has
}

export interface Count {
  value: string;
  count: number;
}

export interface Counts {
  label: Count[];
  folder: Count[];
  date: Count[];
  size: Count[];
}

export interface Found {
  matches: Match[];
  milliseconds: number | null; // the server's, with --debug
}

export interface Group {
  tier: string;
  items: Match[];
}

export interface Duplicates {
  progress: Progress | null; // while they are looked for
  groups: Group[];
  total: number;
  next: string | null;
}

export interface Point {
  id: string;
  label: string;
  x: number;
  y: number;
}

export interface Metric {
  name: string;
  value: number | null;
  low: number | null; // of its 95 % interval, where it has one
  high: number | null;
}

export interface ClassFigures {
  label: string;
  queries: number;
  precision: number;
  f1: number;
}

/** Queries of a label of which the neighbours voted for another one: count, of all of that label. */
export interface Confusion {
  label: string;
  voted: string;
  count: number;
  queries: number;
}

export interface Failed {
  query: Match;
  neighbours: Match[];
}

export interface Evaluation {
  progress: Progress | null;
  queries: number;
  k: number; // of the precision of a class
  metrics: Metric[];
  classes: ClassFigures[];
  confused: Confusion[];
  worst: Failed[];
  notices: string[];
}

export interface ClassGuess {
  label: string;
  probability: number;
}

/** What the service has refused, in its words (RFC 9457). */
export class Refusal extends Error {
  constructor(readonly status: number, detail: string) {
    super(detail);
  }
}

type Raw = Record<string, unknown>;

const TOKEN = "imgret token";
const SHORT_WAIT = 1; // seconds
let token = sessionStorage.getItem(TOKEN) ?? "";
let wasRefused = false;

export function hasToken(): boolean {
  return token !== "";
}

/** Whether a token was given that is not one of the service; it is forgotten. */
export function wasTokenRefused(): boolean {
  return wasRefused;
}

export function setToken(given: string): void {
  token = given;
  sessionStorage.setItem(TOKEN, given);
}

/** Ask the service, again where it says that it is busy for a moment. Throws Refusal. */
export async function ask(path: string, init: RequestInit = {}, tries = 4): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token) headers.set("authorization", `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal(0, "The service does not answer. Look whether `imgret serve` still runs.");
  }
  const wait = Number(response.headers.get("retry-after") ?? NaN);
  if ((response.status === 429 || response.status === 503) && wait <= SHORT_WAIT && tries > 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
    init.signal?.throwIfAborted();
    return ask(path, init, tries - 1);
  }
  if (response.status === 401 && token) { // asked with again and again, it would count as guesses
    setToken("");
    wasRefused = true;
  }
  if (!response.ok) throw new Refusal(response.status, await detailOf(response));
  return response;
}

async function detailOf(response: Response): Promise<string> {
  try {
    const problem = (await response.json()) as Raw;
    return textOf(problem.detail) ?? `The service answered ${response.status}.`;
  } catch {
    return `The service answered ${response.status}.`;
  }
}

export function address(path: string, words: Record<string, string | number | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(words)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export function thumbnailOf(gallery: string, id: string, size: number): string {
  return address(`/v1/images/${id}/thumbnail`, { gallery, size });
}

export function fileAddress(gallery: string, id: string): string {
  return address(`/v1/images/${id}/file`, { gallery });
}

async function json(path: string, init?: RequestInit): Promise<Raw> {
  return (await (await ask(path, init)).json()) as Raw;
}

let base = ""; // the folder that holds the gallery

export async function readGallery(name: string): Promise<Gallery> {
  const answer = await json(address("/v1/gallery", { gallery: name }));
  base = (textOf(answer.path) ?? "").replace(/[^/\\]*[/\\]?$/, "");
  return {
    name: textOf(answer.gallery) ?? "",
    names: Array.isArray(answer.galleries) ? answer.galleries.map(String) : [],
    version: String(answer.version ?? ""), images: numberOf(answer.images) ?? 0,
    failed: numberOf(answer.failed) ?? 0, labels: numberOf(answer.labels) ?? 0, confidence: textOf(answer.confidence) ?? "",
    isWritten: answer.is_written === true, indexing: progressFrom(answer.writer),
    columns: listOf(answer.columns).map((each) => ({ name: textOf(each.name) ?? "", isText: each.holds === "text" })),
    canWrite: answer.can_write === true, canClassify: answer.can_classify === true,
  };
}

/** A query or an example in the form that the service takes: a row, a picture, or its embedding. */
export type Given =
  | { kind: "id"; id: string }
  | { kind: "picture"; picture: Blob }
  | { kind: "embedding"; embedding: number[] };

const LESS = 0.5;

export interface Asked {
  gallery: string;
  query: Given | null;
  box: Box | null;
  positive: Given[]; // ids and embeddings
  negative: Given[]; // these weigh half
  where: string;
  distinct: boolean;
  k: number;
}

export async function search(asked: Asked, signal: AbortSignal): Promise<Found> {
  const common: Raw = { k: asked.k, exclude_self: asked.query?.kind !== "picture" && asked.query?.kind !== "embedding" };
  if (asked.where) common.where = asked.where;
  if (asked.distinct) common.distinct = true;
  const init: RequestInit = { method: "POST", signal };
  if (asked.query?.kind === "picture") {
    init.body = formOf(common, asked, asked.query.picture);
  } else {
    if (asked.query?.kind === "id") common.ids = [Number(asked.query.id)];
    if (asked.query?.kind === "embedding") common.embeddings = [asked.query.embedding];
    common.positive = asked.positive.map(exampleOf);
    common.negative = asked.negative.map((given) => ({ ...exampleOf(given), weight: LESS }));
    init.headers = { "content-type": "application/json" };
    init.body = JSON.stringify(common);
  }
  const response = await ask(address("/v1/search", { gallery: asked.gallery }), init);
  return { matches: matchesOf((await response.json()) as Raw), milliseconds: serverTime(response) };
}

function formOf(common: Raw, asked: Asked, picture: Blob): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(common)) form.set(name, String(value));
  if (asked.box) form.set("crop", [asked.box.x, asked.box.y, asked.box.w, asked.box.h].join(","));
  for (const name of ["positive", "negative"] as const) {
    for (const given of asked[name]) {
      if (given.kind === "id") form.append(name, `${given.id}:${name === "negative" ? LESS : 1}`);
    }
  }
  form.append("picture", picture, "query");
  return form;
}

function exampleOf(given: Given): Raw {
  if (given.kind === "embedding") return { embedding: given.embedding };
  return given.kind === "id" ? { id: Number(given.id) } : {};
}

export async function embed(gallery: string, picture: Blob, signal?: AbortSignal): Promise<number[]> {
  const form = new FormData();
  form.append("picture", picture, "query");
  const init: RequestInit = { method: "POST", body: form };
  if (signal) init.signal = signal;
  const answer = await json(address("/v1/embed", { gallery }), init);
  const result = listOf(answer.results)[0] ?? {};
  if (!Array.isArray(result.embedding)) throw new Refusal(422, textOf(result.error) ?? "It has no embedding.");
  return result.embedding as number[];
}

/** The files of pictures of the gallery as one zip; the service refuses too many. */
export async function readArchive(gallery: string, ids: string[]): Promise<Blob> {
  const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ids: ids.map(Number) }) };
  return (await ask(address("/v1/archive", { gallery }), init)).blob();
}

/** The content of a picture of the gallery. */
export async function readContent(gallery: string, id: string): Promise<Blob> {
  return (await ask(fileAddress(gallery, id))).blob();
}

function serverTime(response: Response): number | null {
  const found = /dur=([\d.]+)/.exec(response.headers.get("server-timing") ?? "");
  return found ? Number(found[1]) : null;
}

function matchesOf(answer: Raw): Match[] {
  const results = Array.isArray(answer.results) ? (answer.results as Raw[]) : [answer];
  const result = results[0] ?? {};
  if (typeof result.error === "string") throw new Refusal(422, result.error);
  return listOf(result.matches).map(matchOf);
}

/** Give images in an order: id, path, name, label, date, size or clusters; with a minus, the other way round. */
export async function browse(
  gallery: string, where: string, order: string, cursor: string | null, limit: number, signal?: AbortSignal,
): Promise<Page> {
  const descending = order.startsWith("-") ? "true" : "";
  const path = address("/v1/images", { gallery, where, order: order.replace("-", ""), descending, cursor, limit });
  const answer = await json(path, signal ? { signal } : {});
  return {
    items: listOf(answer.images).map(matchOf), next: textOf(answer.next), total: numberOf(answer.total),
    progress: progressOf(answer),
    starts: new Map(listOf(answer.clusters).map((each) => [String(each.first), numberOf(each.images) ?? 0])),
  };
}

export async function readImage(gallery: string, id: string): Promise<Raw> {
  return json(address(`/v1/images/${id}`, { gallery }));
}

export async function neighboursOf(gallery: string, id: string, k: number): Promise<Match[]> {
  return matchesOf(await json(address(`/v1/images/${id}/neighbours`, { gallery, k })));
}

export async function labelImage(gallery: string, id: string, label: string | null): Promise<void> {
  await ask(address(`/v1/images/${id}`, { gallery }), {
    method: "PATCH", headers: { "content-type": "application/json" }, body: JSON.stringify({ label }),
  });
}

const asking = new Map<string, Promise<Counts>>();

/** Count values under a filter. Those who ask for the same at a time share an answer. */
export function readCounts(gallery: string, where: string): Promise<Counts> {
  const path = address("/v1/facets", { gallery, where });
  const known = asking.get(path);
  if (known) return known;
  const counts = json(path).then((answer) => ({
    label: countsOf(answer.labels), folder: countsOf(answer.folders), date: countsOf(answer.months),
    size: listOf(answer.sizes).flatMap(({ least, images }) => {
      const value = sizeFrom(numberOf(least));
      return value ? [{ value, count: numberOf(images) ?? 0 }] : [];
    }),
  })).finally(() => setTimeout(() => asking.delete(path), 1000));
  asking.set(path, counts);
  return counts;
}

export async function readDuplicates(gallery: string, tier: string, cursor: string | null): Promise<Duplicates> {
  const answer = await json(address("/v1/duplicates", { gallery, tier, cursor, limit: 100 }));
  return {
    progress: progressOf(answer), total: numberOf(answer.total) ?? 0, next: textOf(answer.next),
    groups: listOf(answer.groups).map((group) => ({
      tier: textOf(group.tier) ?? "", items: listOf(group.images).map(matchOf),
    })),
  };
}

export interface MapAnswer {
  progress: Progress | null;
  points: Point[];
  total: number;
}

export async function readMap(gallery: string): Promise<MapAnswer> {
  const answer = await json(address("/v1/map", { gallery }));
  return {
    progress: progressOf(answer), total: numberOf(answer.total) ?? 0,
    points: listOf(answer.points).filter((point) => point.id !== null).map((point) => ({
      id: String(point.id), label: textOf(point.label) ?? "", x: numberOf(point.x) ?? 0, y: numberOf(point.y) ?? 0,
    })),
  };
}

export async function readEvaluation(gallery: string): Promise<Evaluation> {
  const answer = await json(address("/v1/evaluation", { gallery }));
  const number = (value: unknown) => numberOf(value) ?? 0;
  const text = (value: unknown) => textOf(value) ?? "";
  const leftOut = textOf(answer.left_out);
  return {
    progress: progressOf(answer), queries: number(answer.queries), k: number(answer.k),
    metrics: listOf(answer.metrics).map(({ name, value, low, high }) => ({
      name: text(name), value: numberOf(value), low: numberOf(low), high: numberOf(high),
    })),
    classes: listOf(answer.classes).map(({ label, queries, precision, f1 }) => ({
      label: text(label), queries: number(queries), precision: number(precision), f1: number(f1),
    })),
    confused: listOf(answer.confused).map(({ label, voted, count, queries }) => ({
      label: text(label), voted: text(voted), count: number(count), queries: number(queries),
    })),
    worst: listOf(answer.worst).map(({ query, neighbours }) => ({ query: query as Raw, neighbours: listOf(neighbours) }))
      .filter(({ query }) => query.id !== null)
      .map(({ query, neighbours }) => ({
        query: matchOf(query), neighbours: neighbours.filter(({ id }) => id !== null).map(matchOf),
      })),
    notices: [...(leftOut ? [leftOut] : []), ...(Array.isArray(answer.notices) ? answer.notices.map(String) : [])],
  };
}

export async function classify(picture: Blob, top: number): Promise<ClassGuess[]> {
  const result = await classified(picture, { top: String(top) });
  return listOf(result.classes).map((each) => ({
    label: textOf(each.label) ?? "", probability: numberOf(each.probability) ?? 0,
  }));
}

/** What in a picture speaks for its first class (Grad-CAM), as a picture. */
export async function readHeat(picture: Blob): Promise<Blob> {
  const { heat } = await classified(picture, { top: "1", heat: "true" });
  const content = atob(textOf(heat) ?? "");
  return new Blob([Uint8Array.from(content, (sign) => sign.charCodeAt(0))], { type: "image/png" });
}

async function classified(picture: Blob, words: Record<string, string>): Promise<Raw> {
  const form = new FormData();
  form.set("picture", picture, "picture");
  for (const [name, value] of Object.entries(words)) form.set(name, value);
  const answer = await json("/v1/classify", { method: "POST", body: form });
  const result = listOf(answer.results)[0] ?? {};
  if (typeof result.error === "string") throw new Refusal(422, result.error);
  return result;
}

export function matchOf(raw: Raw): Match {
  const path = textOf(raw.path) ?? "";
  return {
    id: String(raw.id), path, folder: folderOf(base && path.startsWith(base) ? path.slice(base.length) : path),
    score: numberOf(raw.score), probability: numberOf(raw.probability), label: textOf(raw.label),
    width: numberOf(raw.width), height: numberOf(raw.height), copies: numberOf(raw.copies) ?? 1,
  };
}

function progressOf(raw: Raw): Progress | null {
  return raw.status === "running" ? progressFrom(raw) : null;
}

function progressFrom(raw: unknown): Progress | null {
  if (typeof raw !== "object" || raw === null) return null;
  const { step, done, total } = raw as Raw;
  return { text: textOf(step) ?? "", done: numberOf(done) ?? 0, total: numberOf(total) ?? 0 };
}

function countsOf(raw: unknown): Count[] {
  return listOf(raw).map((each) => ({ value: textOf(each.value) ?? "", count: numberOf(each.images) ?? 0 }));
}

function listOf(raw: unknown): Raw[] {
  return Array.isArray(raw) ? (raw as Raw[]) : [];
}

function textOf(raw: unknown): string | null {
  return typeof raw === "string" ? raw : null;
}

function numberOf(raw: unknown): number | null {
  return typeof raw === "number" && Number.isFinite(raw) ? raw : null;
}
