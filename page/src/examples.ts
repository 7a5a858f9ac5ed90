// From the examples in the address to what the service is asked.

import { embed, readContent, Refusal, search, type Found, type Given } from "./api";
import { readFile } from "./files";
import type { Box, Example, State } from "./state";
import { unpacked } from "./vector";
import { whereOf } from "./where";

const embeddings = new Map<string, number[]>(); // of files, by gallery and digest
export const FIRST = 100; // matches that are asked for first
export const MOST = 1000;

/** The picture that is searched by; the others move its embedding. */
export function mainOf(state: State): Example | null {
  return state.examples.find((example) => example.sign > 0) ?? null;
}

export async function searchBy(state: State, k: number, signal: AbortSignal): Promise<Found> {
  const main = mainOf(state);
  const others = state.examples.filter((example) => example !== main);
  const needsEmbeddings = others.some((example) => example.kind === "file");
  const given = (example: Example) => exampleFor(state.gallery, example);
  let query = main ? await queryFor(state.gallery, main, state.box) : null;
  let box = query?.kind === "picture" ? state.box : null;
  if (query?.kind === "picture" && needsEmbeddings) {
    const part = box ? await cut(query.picture, box) : query.picture;
    query = { kind: "embedding", embedding: await embed(state.gallery, part, signal) };
    box = null;
  }
  return search({
    gallery: state.gallery, query, box, k, where: whereOf(state), distinct: state.distinct,
    positive: await Promise.all(others.filter((each) => each.sign > 0).map(given)),
    negative: await Promise.all(others.filter((each) => each.sign < 0).map(given)),
  }, signal);
}

async function queryFor(gallery: string, example: Example, box: Box | null): Promise<Given> {
  if (example.kind === "id") {
    return box ? { kind: "picture", picture: await readContent(gallery, example.key) } : { kind: "id", id: example.key };
  }
  const picture = await readFile(example.key);
  if (picture) return { kind: "picture", picture };
  if (example.embedding) return { kind: "embedding", embedding: unpacked(example.embedding) };
  throw new Refusal(0, "This picture was dropped in another browser. Drop it here again.");
}

async function exampleFor(gallery: string, example: Example): Promise<Given> {
  if (example.kind === "id") return { kind: "id", id: example.key };
  const known = embeddings.get(`${gallery} ${example.key}`);
  if (known) return { kind: "embedding", embedding: known };
  const given = await queryFor(gallery, example, null);
  if (given.kind !== "picture") return given;
  const embedding = await embed(gallery, given.picture);
  embeddings.set(`${gallery} ${example.key}`, embedding);
  return { kind: "embedding", embedding };
}

/** The embedding of the query, as it is drawn: what an address needs where the file is not. */
export async function embeddingOf(state: State, main: Example): Promise<number[] | null> {
  const picture = await readFile(main.key);
  if (!picture) return null;
  return embed(state.gallery, state.box ? await cut(picture, state.box) : picture);
}

async function cut(picture: Blob, box: Box): Promise<Blob> {
  const bitmap = await createImageBitmap(picture, { imageOrientation: "from-image" });
  const canvas = document.createElement("canvas");
  canvas.width = box.w;
  canvas.height = box.h;
  canvas.getContext("2d")?.drawImage(bitmap, -box.x, -box.y);
  bitmap.close();
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Refusal(0, "The box cannot be cut out."))), "image/png");
  });
}
