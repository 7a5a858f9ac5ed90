// One picture large: zoom, its facts, its neighbours, where the file lies, its label.

import { useEffect, useRef, useState } from "preact/hooks";
import { fileAddress, labelImage, neighboursOf, readCounts, readImage, thumbnailOf, type Gallery, type Match } from "./api";
import { searchByExample } from "./drop";
import { copyText } from "./files";
import { asRefusal, change, useAnswer } from "./hooks";
import { Mark } from "./marks";
import { bytesText, dateText, fileOf, folderOf, numberText, percentText, visible } from "./names";
import { Picture } from "./picture";
import type { State } from "./state";
import { Zoom } from "./zoom";

interface LargeProps {
  id: string;
  items: Match[];
  gallery: Gallery;
  state: State;
  onLabel(id: string, label: string | null): void;
}

export function Large({ id, items, gallery, state, onLabel }: LargeProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const image = useAnswer(`image ${state.gallery} ${id} ${gallery.version}`, () => readImage(state.gallery, id));
  const match = items.find((each) => each.id === id) ?? null;
  const path = match?.path ?? (typeof image.value?.path === "string" ? image.value.path : "");
  const at = items.findIndex((each) => each.id === id);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  const step = (by: number) => {
    const next = items[at + by];
    if (at >= 0 && next) change({ open: next.id });
  };
  return (
    <dialog
      ref={dialog} class="large" aria-label={visible(fileOf(path)) || "Picture"} onClose={() => change({ open: null })}
      onClick={(event: MouseEvent) => event.target === dialog.current && dialog.current?.close()}
      onKeyDown={(event: KeyboardEvent) => {
        if ((event.target as HTMLElement).tagName === "INPUT") return;
        if (event.key === "ArrowRight") step(1);
        else if (event.key === "ArrowLeft") step(-1);
      }}
    >
      <header>
        <h2>{visible(fileOf(path))}</h2>
        <div class="ways">
          <button class="plain" aria-label="Previous" disabled={at <= 0} onClick={() => step(-1)}><Mark name="left" /></button>
          <button class="plain" aria-label="Next" disabled={at < 0 || at + 1 >= items.length} onClick={() => step(1)}><Mark name="right" /></button>
          <button class="plain" aria-label="Close" onClick={() => dialog.current?.close()}><Mark name="close" /></button>
        </div>
      </header>
      <div class="sides">
        <Zoom path={fileAddress(state.gallery, id)} alt={visible(fileOf(path))} />
        <div class="about">
          {image.error && <p class="wrong-text" role="alert">{image.error.message}</p>}
          <Place path={path} id={id} gallery={state.gallery} />
          {gallery.canWrite && <LabelForm id={id} label={match ? match.label : labelOf(image.value)} gallery={state.gallery} onLabel={onLabel} />}
          <FactsTable match={match} raw={image.value} />
          <Neighbours id={id} gallery={state.gallery} version={gallery.version} />
        </div>
      </div>
    </dialog>
  );
}

function labelOf(raw: Record<string, unknown> | null): string | null {
  return typeof raw?.label === "string" ? raw.label : null;
}

function Place({ path, id, gallery }: { path: string; id: string; gallery: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => setSaid(""), [id]);
  return (
    <section>
      <p class="path">{visible(folderOf(path))}{folderOf(path) && "/"}<strong>{visible(fileOf(path))}</strong></p>
      <div class="ways">
        <button class="plain" onClick={() => searchByExample({ kind: "id", key: id, sign: 1 })}><Mark name="search" />More like this</button>
        <a class="plain" href={fileAddress(gallery, id)} target="_blank" rel="noopener">Open the file</a>
        <button class="plain" onClick={() => copyText(path).then(() => setSaid("Copied"), () => setSaid("The browser does not let the page copy."))}>Copy path</button>
        <span role="status">{said}</span>
      </div>
    </section>
  );
}

function LabelForm({ id, label, gallery, onLabel }: { id: string; label: string | null; gallery: string; onLabel(id: string, label: string | null): void }) {
  const [text, setText] = useState(label ?? "");
  const [said, setSaid] = useState("");
  const counts = useAnswer(`labels ${gallery}`, () => readCounts(gallery, ""));
  useEffect(() => setText(label ?? ""), [id, label]);
  useEffect(() => setSaid(""), [id]);
  async function save(event: Event): Promise<void> {
    event.preventDefault();
    const given = text.trim() || null;
    try {
      await labelImage(gallery, id, given);
      onLabel(id, given);
      setSaid("Saved");
    } catch (error) {
      setSaid(asRefusal(error).message);
    }
  }
  return (
    <form class="inline" onSubmit={save}>
      <label>Label <input list="labels" value={text} placeholder="none" onInput={(event) => setText((event.target as HTMLInputElement).value)} /></label>
      <datalist id="labels">{counts.value?.label.filter((each) => each.value).slice(0, 500).map((each) => <option key={each.value} value={each.value} />)}</datalist>
      <button class="plain" disabled={text.trim() === (label ?? "")}>Save</button>
      <span role="status">{said}</span>
    </form>
  );
}

function FactsTable({ match, raw }: { match: Match | null; raw: Record<string, unknown> | null }) {
  const rows: [string, string][] = [];
  if (match?.probability != null) rows.push(["Probability", percentText(match.probability)]);
  if (match?.score != null) rows.push(["Score", match.score.toFixed(4)]);
  for (const [name, value] of Object.entries(raw ?? {})) {
    if (["path", "label", "thumbnail"].includes(name) || value === null || value === "") continue;
    rows.push([name, factText(name, value)]);
  }
  return (
    <table class="facts-table">
      <caption class="unseen">Facts</caption>
      <tbody>{rows.map(([name, value]) => <tr key={name}><th scope="row">{visible(name.replaceAll("_", " "))}</th><td>{visible(value)}</td></tr>)}</tbody>
    </table>
  );
}

function factText(name: string, value: unknown): string {
  if (name === "modified") return dateText(String(value));
  if ((name === "size" || name === "bytes") && typeof value === "number") return bytesText(value);
  return typeof value === "number" && name !== "id" ? numberText(value) : String(value);
}

function Neighbours({ id, gallery, version }: { id: string; gallery: string; version: string }) {
  const found = useAnswer(`neighbours ${gallery} ${id} ${version}`, () => neighboursOf(gallery, id, 12));
  if (!found.value?.length) return null;
  return (
    <section>
      <h3>Neighbours</h3>
      <ul class="neighbours">
        {found.value.map((match) => (
          <li key={match.id}>
            <button title={visible(match.path)} onClick={() => change({ open: match.id })}>
              <Picture path={thumbnailOf(gallery, match.id, 192)} alt={visible(fileOf(match.path))} />
              <span>{match.score?.toFixed(3)}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
