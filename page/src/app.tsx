// The page: its tabs, its galleries, and the view that the address names.

import { useEffect, useRef, useState } from "preact/hooks";
import { readGallery, type Gallery } from "./api";
import { Classes } from "./classes";
import { takePictures, searchByFile } from "./drop";
import { Duplicates } from "./duplicates";
import { Empty } from "./empty";
import { EvaluationView } from "./evaluation";
import { addressOf, change, stateNow, useAddress, useAnswer } from "./hooks";
import { MapView } from "./map";
import { numberText } from "./names";
import { Progressing } from "./progress";
import { Search } from "./search";
import { emptyState, type View } from "./state";
import { TokenForm } from "./token";

const LOOK_AGAIN = 4000;
const CALM = 15_000;

export function App() {
  const state = useAddress();
  const [turn, setTurn] = useState(0);
  const [over, setOver] = useState(false);
  const answer = useAnswer(`${state.gallery} ${turn}`, () => readGallery(state.gallery));
  const last = useRef<{ of: string; gallery: Gallery } | null>(null);
  if (answer.value) last.current = { of: state.gallery, gallery: answer.value };
  // one that does not answer for a moment is still on show
  const gallery = answer.value ?? (last.current?.of === state.gallery ? last.current.gallery : null);
  const grown = useGrowth(gallery);
  const [written, setWritten] = useState(0); // times in a row; a label is written in less than one
  useEffect(() => setWritten((before) => (gallery?.isWritten ? before + 1 : 0)), [gallery]);
  const view = answer.error?.status === 404 && !state.gallery ? "classes" : state.view; // served with --model alone
  const shown = useRef(view);
  shown.current = view;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTurn((before) => before + 1), LOOK_AGAIN);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => takePictures((file) => {
    if (shown.current === "classes") dispatchEvent(new CustomEvent("classify", { detail: file }));
    else void searchByFile(file);
  }, setOver), []);
  if (answer.error?.status === 401) return <TokenForm onToken={() => location.reload()} />;
  const isEmpty = !gallery && answer.error?.status === 503 && answer.error.message.includes("imgret index");
  return (
    <>
      <Header view={view} gallery={gallery} />
      {gallery?.indexing && <Progressing text="Indexing" progress={gallery.indexing} />}
      {gallery && !gallery.indexing && (grown > 0 || written > 1) && (
        <p class="indexing" role="status">Indexing: {numberText(gallery.images)} pictures{grown > 0 && `, ${numberText(grown)} of them new`}</p>
      )}
      <main class={view}>
        {isEmpty && <Empty failed={0} />}
        {answer.error && !isEmpty && view !== "classes" && <p class="wrong-text" role="alert">{answer.error.message}</p>}
        <ViewOf key={state.gallery} view={view} gallery={gallery} />
      </main>
      {over && <div class="over" aria-hidden="true">Drop the picture anywhere</div>}
    </>
  );
}

/** How many pictures have come since the gallery began to grow; 0 once it has not for a while. */
function useGrowth(gallery: Gallery | null): number {
  const past = useRef({ name: "", from: 0, last: 0, at: 0 });
  if (!gallery) return 0;
  const now = past.current;
  if (now.name !== gallery.name) past.current = { name: gallery.name, from: gallery.images, last: gallery.images, at: 0 };
  else if (gallery.images > now.last) past.current = { ...now, last: gallery.images, at: Date.now() };
  else if (Date.now() - now.at > CALM) past.current = { ...now, from: gallery.images, last: gallery.images };
  return past.current.last - past.current.from;
}

function ViewOf({ view, gallery }: { view: View; gallery: Gallery | null }) {
  const state = useAddress();
  switch (view) {
    case "classes": return <Classes />;
    case "duplicates": return gallery && <Duplicates gallery={gallery} name={state.gallery} />;
    case "evaluation": return gallery && <EvaluationView gallery={gallery} state={state} />;
    case "map": return gallery && <MapView name={state.gallery} version={gallery.version} />;
    default: return gallery && <Search state={state} gallery={gallery} />;
  }
}

function Header({ view, gallery }: { view: View; gallery: Gallery | null }) {
  const tabs: [View, string][] = gallery || view !== "classes" ? [["search", "Search"], ["duplicates", "Duplicates"], ["map", "Map"]] : [];
  if (tabs.length && (gallery?.labels || view === "evaluation")) tabs.push(["evaluation", "Evaluation"]);
  if (gallery?.canClassify || view === "classes") tabs.push(["classes", "Classes"]);
  return (
    <header class="top">
      <button class="plain skip" onClick={() => document.querySelector<HTMLElement>(".card[tabindex='0']")?.focus()}>To the pictures</button>
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
      <a class="api" href="/api/docs">API</a>
    </header>
  );
}

function goHome(event: MouseEvent): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  change({ ...emptyState(), gallery: stateNow().gallery });
  scrollTo({ top: 0 });
}
