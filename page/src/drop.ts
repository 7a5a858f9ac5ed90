// Pictures that come from outside: dropped, pasted, chosen or photographed.

import { keepFile } from "./files";
import { change, stateNow } from "./hooks";
import type { Example } from "./state";

/** Search by a picture; sign adds it to the examples there are. */
export async function searchByFile(file: Blob, sign: 1 | -1 | 0 = 0): Promise<void> {
  const key = await keepFile(file);
  const example: Example = { kind: "file", key, sign: sign || 1 };
  if (sign) addExample(example);
  else searchByExample(example);
}

export function searchByExample(example: Example): void {
  change({ view: "search", examples: [example], box: null, least: null, open: null, ids: [], leftOut: 0 });
  scrollTo({ top: 0 });
}

export function addExample(example: Example): void {
  const { examples } = stateNow();
  const others = examples.filter((each) => each.kind !== example.kind || each.key !== example.key);
  change({ view: "search", examples: [...others, example], open: null });
}

export function removeExample(example: Example): void {
  const { examples } = stateNow();
  const main = examples.find((each) => each.sign > 0);
  change({ examples: examples.filter((each) => each !== example), ...(example === main ? { box: null } : {}) });
}

function pictureOf(data: DataTransfer | null): File | null {
  const files = [...(data?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}

/** Take what is dropped or pasted anywhere on the page. onOver: whether something hangs above it. */
export function takePictures(take: (file: File) => void, onOver: (isOver: boolean) => void): () => void {
  const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const over = (event: DragEvent) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    onOver(true);
  };
  const leave = (event: DragEvent) => event.relatedTarget === null && onOver(false);
  const drop = (event: DragEvent) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    onOver(false);
    const file = pictureOf(event.dataTransfer);
    if (file) take(file);
  };
  const paste = (event: ClipboardEvent) => {
    const file = pictureOf(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    take(file);
  };
  addEventListener("dragover", over);
  addEventListener("dragleave", leave);
  addEventListener("drop", drop);
  addEventListener("paste", paste);
  return () => {
    removeEventListener("dragover", over);
    removeEventListener("dragleave", leave);
    removeEventListener("drop", drop);
    removeEventListener("paste", paste);
  };
}
