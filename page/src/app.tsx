// The page: its tabs, its galleries, and the view that the address names.

import { useEffect, useState } from "preact/hooks";
import { readGallery, type Gallery } from "./api";
import { Classes } from "./classes";
import { takePictures, searchByFile } from "./drop";
import { Duplicates } from "./duplicates";
import { addressOf, change, stateNow, useAddress, useAnswer } from "./hooks";
import { MapView } from "./map";
import { numberText } from "./names";
import { Search } from "./search";
import { emptyState, type View } from "./state";
import { TokenForm } from "./token";

const LOOK_AGAIN = 4000;

export function App() {
  const state = useAddress();
  const [turn, setTurn] = useState(0);
  const [over, setOver] = useState(false);
  const answer = useAnswer(`${state.gallery} ${turn}`, () => readGallery(state.gallery));
  const gallery = answer.value;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTurn((before) => before + 1), LOOK_AGAIN);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => takePictures((file) => {
    if (stateNow().view === "classes") dispatchEvent(new CustomEvent("classify", { detail: file }));
    else void searchByFile(file);
  }, setOver), []);
  if (answer.error?.status === 401 || answer.error?.status === 403) {
    return <TokenForm error={answer.error} onToken={() => location.reload()} />;
  }
  return (
    <>
      <Header view={state.view} gallery={gallery} />
      {gallery?.progress && <Indexing gallery={gallery} />}
      <main class={state.view}>
        {answer.error && !gallery && state.view !== "classes" && <p class="wrong-text" role="alert">{answer.error.message}</p>}
        <ViewOf view={state.view} gallery={gallery} />
      </main>
      {over && <div class="over" aria-hidden="true">Drop the picture anywhere</div>}
    </>
  );
}

function ViewOf({ view, gallery }: { view: View; gallery: Gallery | null }) {
  const state = useAddress();
  switch (view) {
    case "classes": return <Classes />;
    case "duplicates": return gallery && <Duplicates gallery={gallery} name={state.gallery} />;
    case "map": return gallery && <MapView name={state.gallery} version={gallery.version} />;
    default: return gallery && <Search state={state} gallery={gallery} />;
  }
}

function Header({ view, gallery }: { view: View; gallery: Gallery | null }) {
  const tabs: [View, string][] = [["search", "Search"], ["duplicates", "Duplicates"], ["map", "Map"]];
  if (gallery?.classifier || view === "classes") tabs.push(["classes", "Classes"]);
  return (
    <header class="top">
      <a class="brand" href={`#${gallery && stateNow().gallery ? `gallery=${encodeURIComponent(stateNow().gallery)}` : ""}`} onClick={goHome}>imgret</a>
      <nav aria-label="Views">
        {tabs.map(([name, text]) => (
          <a
            key={name} href={addressOf({ ...emptyState(), gallery: stateNow().gallery, view: name })}
            aria-current={view === name ? "page" : undefined}
            onClick={(event: MouseEvent) => {
              if (event.ctrlKey || event.metaKey || event.shiftKey) return;
              event.preventDefault();
              change(name === "search" ? { ...stateNow(), view: name } : { view: name, open: null });
            }}
          >{text}</a>
        ))}
      </nav>
      {gallery && gallery.names.length > 1
        ? <label class="which">Gallery{" "}
            <select value={stateNow().gallery || gallery.name} onChange={(event) => {
              change({ ...emptyState(), view, gallery: (event.target as HTMLSelectElement).value });
            }}>
              {gallery.names.map((name) => <option key={name} value={name}>{name}</option>)}
            </select>
          </label>
        : <span class="which">{gallery && `${numberText(gallery.images)} pictures`}</span>}
    </header>
  );
}

function goHome(event: MouseEvent): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  change({ ...emptyState(), gallery: stateNow().gallery });
  scrollTo({ top: 0 });
}

function Indexing({ gallery }: { gallery: Gallery }) {
  const { text, done, total } = gallery.progress ?? { text: "", done: 0, total: 0 };
  return (
    <p class="indexing" role="status">
      <span>{text || "Indexing"}: {numberText(done)}{total ? ` of ${numberText(total)}` : ""}</span>
      <progress value={total ? done : undefined} max={total || undefined} aria-label="Indexing" />
    </p>
  );
}
