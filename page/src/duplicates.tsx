// Duplicates: of each group one picture is kept; the list of the others is written, nothing is deleted.

import { useEffect, useState } from "preact/hooks";
import { fileAddress, readDuplicates, thumbnailOf, type Gallery, type Group, type Match } from "./api";
import { download } from "./files";
import { useAnswer } from "./hooks";
import { folderWidth } from "./measure";
import { fileOf, folderOf, numberText, shellWord, visible } from "./names";
import { Picture } from "./picture";
import { shortened } from "./rows";

const AT_ONCE = 50;
const LOOK_AGAIN = 1500;
const FOLDER_WIDTH = 150;

/** The picture that is kept of each group: the user's choice, else the first that the service names. */
type Kept = Map<string, string | null>; // null: all

export function Duplicates({ gallery, name }: { gallery: Gallery; name: string }) {
  const [turn, setTurn] = useState(0);
  const [kept, setKept] = useState<Kept>(new Map());
  const [shown, setShown] = useState(AT_ONCE);
  const answer = useAnswer(`duplicates ${name} ${gallery.version} ${turn}`, () => readDuplicates(name));
  const progress = answer.value?.progress ?? null;
  useEffect(() => {
    if (!progress) return;
    const timer = setTimeout(() => setTurn(turn + 1), LOOK_AGAIN);
    return () => clearTimeout(timer);
  }, [progress, turn]);
  if (answer.error) return <p class="wrong-text" role="alert">{answer.error.message}</p>;
  const groups = answer.value?.groups ?? [];
  const others = othersOf(groups, kept);
  return (
    <div class="content">
      <h1>Duplicates</h1>
      {(progress || answer.waits && !answer.value) && (
        <p class="indexing" role="status"><span>Looking for duplicates…</span>
          <progress value={progress?.total ? progress.done : undefined} max={progress?.total || undefined} aria-label="Looking for duplicates" /></p>
      )}
      {answer.value && !progress && (groups.length
        ? <div class="bar">
            <p role="status">{numberText(groups.length)} group{groups.length === 1 ? "" : "s"}. Kept are those that are marked; the list names the other {numberText(others.length)}. Nothing is deleted.</p>
            <div class="ways">
              <button class="plain" disabled={!others.length} onClick={() => download("duplicates.txt", others.map((match) => match.path).join("\n") + "\n")}>List of the others</button>
              <button class="plain" disabled={!others.length} onClick={() => download("remove-duplicates.sh", scriptOf(others), "text/x-shellscript")}>As a shell script</button>
            </div>
          </div>
        : <p role="status">There are no duplicates.</p>)}
      {groups.slice(0, shown).map((group) => (
        <GroupOf key={keyOf(group)} group={group} gallery={name} kept={keptOf(group, kept)} onKeep={(id) => setKept(new Map(kept).set(keyOf(group), id))} />
      ))}
      {groups.length > shown && <button class="plain" onClick={() => setShown(shown + AT_ONCE)}>Show more of {numberText(groups.length)}</button>}
    </div>
  );
}

function GroupOf({ group, gallery, kept, onKeep }: { group: Group; gallery: string; kept: string | null; onKeep(id: string | null): void }) {
  const key = keyOf(group);
  return (
    <fieldset class="group">
      <legend>{visible(group.tier || "alike")}, {group.items.length} pictures</legend>
      <div class="members">
        {group.items.map((match) => (
          <div key={match.id} class={`card ${kept === match.id ? "kept" : ""}`}>
            <label class="frame">
              <Picture path={thumbnailOf(gallery, match.id, 384)} alt="" />
              <span class="keep"><input type="radio" name={key} checked={kept === match.id} onChange={() => onKeep(match.id)} /> keep<span class="unseen"> {visible(fileOf(match.path))}</span></span>
            </label>
            <a class="name" href={fileAddress(gallery, match.id)} target="_blank" rel="noopener">{visible(fileOf(match.path))}</a>
            <div class="folder" title={visible(match.path)}>{shortened(visible(folderOf(match.path)), FOLDER_WIDTH, folderWidth) || "\u00a0"}</div>
            <div class="facts">{match.width && match.height ? `${match.width} × ${match.height}` : "\u00a0"}</div>
          </div>
        ))}
      </div>
      <label class="check"><input type="radio" name={key} checked={kept === null} onChange={() => onKeep(null)} /> keep all</label>
    </fieldset>
  );
}

function keyOf(group: Group): string {
  return group.items.map((match) => match.id).join(" ");
}

function keptOf(group: Group, kept: Kept): string | null {
  const chosen = kept.get(keyOf(group));
  return chosen === undefined ? group.items[0]?.id ?? null : chosen;
}

function othersOf(groups: Group[], kept: Kept): Match[] {
  return groups.flatMap((group) => {
    const keeps = keptOf(group, kept);
    return keeps === null ? [] : group.items.filter((match) => match.id !== keeps);
  });
}

/** A script that one reads before one runs it; it ends at the first failure. */
function scriptOf(others: Match[]): string {
  const lines = others.map((match) => `rm -- ${shellWord(match.path)}`);
  return ["#!/bin/sh", "# Read this first: it deletes the pictures that were not kept.",
    "# Run it in the folder that holds the gallery.", "set -eu", ...lines, ""].join("\n");
}
