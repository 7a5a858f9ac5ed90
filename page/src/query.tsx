// The query and the examples beside it, and the ways to give one.

import { useEffect, useRef, useState } from "preact/hooks";
import { fileAddress, thumbnailOf } from "./api";
import { Crop } from "./crop";
import { removeExample, searchByFile } from "./drop";
import { mainOf } from "./examples";
import { readFile } from "./files";
import { change } from "./hooks";
import { Mark } from "./marks";
import { Picture } from "./picture";
import type { Example, State } from "./state";

export function Query({ state }: { state: State }) {
  const main = mainOf(state);
  const others = state.examples.filter((example) => example !== main);
  if (!state.examples.length) {
    return (
      <section class="ask" aria-label="Query">
        <p><strong>Drop or paste a picture anywhere</strong>, or click one below, to see what looks like it.</p>
        <div class="ways"><Choose sign={0} text="Choose a picture" /><Photograph /></div>
      </section>
    );
  }
  return (
    <section class="query" aria-label="Query">
      {main && <Main example={main} state={state} />}
      <div class="others">
        <Examples title="Also like" sign={1} examples={others} gallery={state.gallery} />
        <Examples title="Less like" sign={-1} examples={others} gallery={state.gallery} />
      </div>
      <div class="ways">
        <Choose sign={0} text="Other picture" />
        <button class="plain" onClick={() => change({ examples: [], box: null, least: null })}>Clear</button>
      </div>
    </section>
  );
}

function Main({ example, state }: { example: Example; state: State }) {
  const path = usePath(example, state.gallery);
  const [drawing, setDrawing] = useState(false);
  if (path === null) return <p class="soft">The picture is in another browser; its embedding is in this address.</p>;
  return (
    <div class="main">
      <Crop path={path} box={state.box} drawing={drawing} onBox={(box) => {
        setDrawing(false);
        change({ box, examples: withoutEmbedding(state.examples) });
      }} />
      <div class="ways">
        <button class="plain" aria-pressed={drawing} onClick={() => setDrawing(!drawing)}><Mark name="box" />{state.box ? "Draw another box" : "Draw a box"}</button>
        {state.box && <button class="plain" onClick={() => change({ box: null, examples: withoutEmbedding(state.examples) })}>Whole picture</button>}
      </div>
    </div>
  );
}

function withoutEmbedding(examples: Example[]): Example[] {
  return examples.map(({ kind, key, sign }) => ({ kind, key, sign }));
}

function Examples({ title, sign, examples, gallery }: { title: string; sign: 1 | -1; examples: Example[]; gallery: string }) {
  const mine = examples.filter((example) => example.sign === sign);
  return (
    <div class="examples" role="group" aria-label={title}>
      <span>{title}</span>
      {mine.map((example) => <Small key={example.key} example={example} gallery={gallery} title={title} />)}
      <Choose sign={sign} text="Add" name={`${title}: add a picture`} />
    </div>
  );
}

function Small({ example, gallery, title }: { example: Example; gallery: string; title: string }) {
  const path = usePath(example, gallery, 128);
  return (
    <button class="small" title="Remove" aria-label={`${title}: remove this picture`} onClick={() => removeExample(example)}>
      {path ? <Picture path={path} alt="" /> : <span>?</span>}
      <Mark name="close" />
    </button>
  );
}

/** Where the picture of an example can be seen; null where it is in another browser. */
function usePath(example: Example, gallery: string, thumbnail?: number): string | null {
  const [path, setPath] = useState<string | null>(null);
  useEffect(() => {
    if (example.kind === "id") return;
    let made = "";
    let left = false;
    readFile(example.key).then((picture) => {
      if (left) return;
      if (picture) made = URL.createObjectURL(picture);
      setPath(made || null);
    });
    return () => {
      left = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [example.kind, example.key]);
  if (example.kind === "file") return path;
  return thumbnail ? thumbnailOf(gallery, example.key, thumbnail) : fileAddress(gallery, example.key);
}

function Choose({ sign, text, name }: { sign: 1 | -1 | 0; text: string; name?: string }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button class="plain" aria-label={name} onClick={() => input.current?.click()}>{text}</button>
      <input ref={input} class="unseen" type="file" accept="image/*,.heic,.avif,.dng" tabIndex={-1} aria-hidden="true" onChange={(event) => take(event, sign)} />
    </>
  );
}

function Photograph() {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button class="plain" onClick={() => input.current?.click()}><Mark name="camera" />Photograph</button>
      <input ref={input} class="unseen" type="file" accept="image/*" capture="environment" tabIndex={-1} aria-hidden="true" onChange={(event) => take(event, 0)} />
    </>
  );
}

function take(event: Event, sign: 1 | -1 | 0): void {
  const input = event.target as HTMLInputElement;
  const file = input.files?.[0];
  if (file) void searchByFile(file, sign);
  input.value = ""; // so that the same file can be chosen again
}
