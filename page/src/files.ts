// Pictures that were dropped, kept in this browser under the digest of their content, so that Back,
// Forward and a reload find them again. They leave it only as the query of a search.

const NAME = "imgret";
const STORE = "pictures";
const MOST = 50;
const near = new Map<string, Blob>();

export async function digestOf(picture: Blob): Promise<string> {
  const content = await picture.arrayBuffer();
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  // without TLS a browser gives no digests to a page of another machine; the name need only be new
  const random = crypto.getRandomValues(new Uint8Array(32));
  return [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function keepFile(picture: Blob): Promise<string> {
  const key = await digestOf(picture);
  near.set(key, picture);
  void store(key, picture); // the search need not wait for the disk
  return key;
}

async function store(key: string, picture: Blob): Promise<void> {
  try {
    const pictures = await storeFor("readwrite");
    pictures.put({ key, picture, kept: Date.now() });
    forgetOldest(pictures);
  } catch {
    // a private window keeps nothing; the picture lives as long as the page
  }
}

export async function readFile(key: string): Promise<Blob | null> {
  const known = near.get(key);
  if (known) return known;
  try {
    const store = await storeFor("readonly");
    const row = await asked<{ picture: Blob } | undefined>(store.get(key));
    if (row) near.set(key, row.picture);
    return row?.picture ?? null;
  } catch {
    return null;
  }
}

function forgetOldest(store: IDBObjectStore): void {
  const keys = store.index("kept").getAllKeys();
  keys.onsuccess = () => {
    for (const key of keys.result.slice(0, Math.max(0, keys.result.length - MOST))) store.delete(key);
  };
}

async function storeFor(mode: IDBTransactionMode): Promise<IDBObjectStore> {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore(STORE, { keyPath: "key" }).createIndex("kept", "kept");
  };
  const database = await asked(opening);
  return database.transaction(STORE, mode).objectStore(STORE);
}

function asked<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Give a text to the user as a file. */
export function download(name: string, content: string | Blob, kind = "text/plain"): void {
  const blob = typeof content === "string" ? new Blob([content], { type: `${kind};charset=utf-8` }) : content;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea"); // where the page is not served over TLS
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
