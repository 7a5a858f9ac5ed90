// Duplicates: of each group one picture is kept; the list of the others is written, nothing is deleted.

import { useEffect, useState } from "preact/hooks";
import { fileAddress, readDuplicates, thumbnailOf, type Gallery, type Group, type Match } from "./api";
import { download } from "./files";
import { useJob } from "./hooks";
import { folderWidth } from "./measure";
import { fileOf, numberText, shellWord, visible } from "./names";
import { Picture } from "./picture";
import { Progressing } from "./progress";
import { shortened } from "./rows";

const FOLDER_WIDTH = 150;
const TIERS: [string, string][] = [
  ["bytes", "the same file"], ["picture", "the same pixels"], ["copy", "copies"], ["similar", "nearly alike"],
];

/** The picture that is kept of each group: the user's choice, else the first, which the service proposes. */
type Kept = Map<string, string | null>; // null: all

export function Duplicates({ gallery, name }: { gallery: Gallery; name: string }) {
  const [tier, setTier] = useState("similar");
  const [kept, setKept] = useState<Kept>(new Map());
  const { answer, first, progress, groups, next, read } = useGroups(gallery, name, tier);
  const write = async (isScript: boolean) => {
    const others = othersOf(await read(true), kept);
    if (isScript) download("remove-duplicates.sh", scriptOf(others), "text/x-shellscript");
    else download("duplicates.txt", others.map((match) => match.path).join("\n") + "\n");
  };
  return (
    <div class="content">
      <h1>Duplicates</h1>
      <div class="bar">
        <label class="order">Show{" "}
          <select value={tier} onChange={(event) => setTier((event.target as HTMLSelectElement).value)}>
            {TIERS.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
          </select>
        </label>
        {groups.length > 0 && <div class="ways">
          <button class="plain" onClick={() => void write(false)}>List of the others</button>
          <button class="plain" onClick={() => void write(true)}>As a shell script</button>
        </div>}
      </div>
      {answer.error && <p class="wrong-text" role="alert">{answer.error.message}</p>}
      {progress || (answer.waits && !first)
        ? <Progressing text="Looking for duplicates" progress={progress} />
        : first && <p role="status">{groups.length ? told(first.total, othersOf(groups, kept).length, next !== null) : "There are no duplicates."}</p>}
      {groups.map((group) => (
        <GroupOf key={keyOf(group)} group={group} gallery={name} kept={keptOf(group, kept)} onKeep={(id) => setKept(new Map(kept).set(keyOf(group), id))} />
      ))}
      {next !== null && <button class="plain" onClick={() => void read(false)}>Show more of {numberText(first?.total ?? 0)}</button>}
    </div>
  );
}

/** The groups of a kind, a page after the other. */
function useGroups(gallery: Gallery, name: string, tier: string) {
  const [more, setMore] = useState<Group[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [version] = useState(gallery.version); // a review is of one version
  const answer = useJob(`duplicates ${name} ${version} ${tier}`, () => readDuplicates(name, tier, null));
  const first = answer.value;
  const progress = first?.progress ?? null;
  useEffect(() => {
    setMore([]);
    setNext(first?.next ?? null);
  }, [first]);
  const groups = [...(first?.groups ?? []), ...more];

  /** Read the pages that are left, or one of them. */
  async function read(isAll: boolean): Promise<Group[]> {
    const found: Group[] = [];
    let cursor = next;
    while (cursor !== null) {
      const page = await readDuplicates(name, tier, cursor);
      found.push(...page.groups);
      cursor = page.next;
      if (!isAll) break;
    }
    setMore([...more, ...found]);
    setNext(cursor);
    return [...groups, ...found];
  }
  return { answer, first, progress, groups, next, read };
}

function told(total: number, others: number, isPart: boolean): string {
  const shown = isPart ? ", so far" : "";
  return `${numberText(total)} group${total === 1 ? "" : "s"}. The marked picture of each is kept; the list names the other ${numberText(others)}${shown}. Nothing is deleted.`;
}

function GroupOf({ group, gallery, kept, onKeep }: { group: Group; gallery: string; kept: string | null; onKeep(id: string | null): void }) {
  const key = keyOf(group);
  return (
    <fieldset class="group">
      <legend>{TIERS.find(([tier]) => tier === group.tier)?.[1] ?? "alike"}, {group.items.length} pictures</legend>
      <div class="members">
        {group.items.map((match) => (
          <div key={match.id} class={`card ${kept === match.id ? "kept" : ""}`}>
            <label class="frame">
              <Picture path={thumbnailOf(gallery, match.id, 384)} alt="" />
              <span class="keep"><input type="radio" name={key} checked={kept === match.id} onChange={() => onKeep(match.id)} /> keep<span class="unseen"> {visible(fileOf(match.path))}</span></span>
            </label>
            <a class="name" href={fileAddress(gallery, match.id)} target="_blank" rel="noopener">{visible(fileOf(match.path))}</a>
            <div class="folder" title={visible(match.path)}>{shortened(visible(match.folder), FOLDER_WIDTH, folderWidth) || "\u00a0"}</div>
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
  return ["#!/bin/sh", "# Read this first: it deletes the pictures that were not kept.", "set -eu", ...lines, ""].join("\n");
}
