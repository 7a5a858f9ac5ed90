// How good the matches are by the labels: figures, and the queries that failed worst.

import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { readEvaluation, type ClassFigures, type Confusion, type Evaluation, type Failed, type Gallery, type Match, type Metric } from "./api";
import { searchByExample } from "./drop";
import { Grid, type Line } from "./grid";
import { addressOf, change, stateNow, useJob, usePlaceBefore, useVersion } from "./hooks";
import { Large } from "./large";
import { fileOf, numberText, shareText, visible } from "./names";
import { Progressing } from "./progress";
import { emptyState, type State } from "./state";

const NONE = new Set<string>();
const NO_LINES: Line[] = [];

export function EvaluationView({ gallery, state }: { gallery: Gallery; state: State }) {
  const [version, isOld, renew] = useVersion(gallery.version, true); // figures stay while one reads them
  const answer = useJob(`evaluation ${state.gallery} ${version}`, () => readEvaluation(state.gallery));
  const told = answer.value;
  return (
    <div class="content">
      <h1>How good the matches are</h1>
      {isOld && <button class="chip renew" onClick={renew}>The gallery has changed. Measure it as it is now</button>}
      {answer.error && <p class="wrong-text" role="alert">{answer.error.message}</p>}
      {answer.error ? null : !told || told.progress
        ? <Progressing text="Measuring" progress={told?.progress ?? null} />
        : <Measured key={version} told={told} gallery={gallery} state={state} />}
    </div>
  );
}

function Measured({ told, gallery, state }: { told: Evaluation; gallery: Gallery; state: State }) {
  const [labels, setLabels] = useState(new Map<string, string | null>()); // that were written since
  const [from, setFrom] = useState(0); // the failed query of which a picture was opened
  usePlaceBefore();
  const worst = useMemo(() => {
    const written = (match: Match) => (labels.has(match.id) ? { ...match, label: labels.get(match.id) ?? null } : match);
    return told.worst.map(({ query, neighbours }) => ({ query: written(query), neighbours: neighbours.map(written) }));
  }, [told, labels]);
  const shown = [worst[from], ...worst].flatMap((failed) => (failed ? [[failed.query, ...failed.neighbours]] : []));
  const beside = shown.find((items) => items.some((match) => match.id === state.open)) ?? [];
  return (
    <>
      <p role="status">{told.queries ? `Each of ${numberText(told.queries)} pictures was searched for among the others. A match is right if it has the same label.` : "There is nothing to measure."}</p>
      {told.notices.map((notice) => <p key={notice} class="soft">{visible(notice)}</p>)}
      <div class="measures">
        <Metrics metrics={told.metrics} />
        <section class="worst">
          <h2>{worst.length ? "Queries that failed worst" : "No query failed"}</h2>
          {worst.length > 0 && <p class="soft">Each stands in a blue frame, and then what was found for it: in a green frame what is right, in a red one what is wrong.</p>}
          {worst.map((failed, n) => (
            <FailedQuery key={failed.query.id} failed={failed} gallery={state.gallery} n={n} onOpen={setFrom} />
          ))}
        </section>
        <div>
          <Classes classes={told.classes} k={told.k} />
          <Confusions confused={told.confused} />
        </div>
      </div>
      {state.open !== null && <Large
        id={state.open} items={beside} gallery={gallery} state={state}
        onLabel={(id, label) => setLabels(new Map(labels).set(id, label))}
      />}
    </>
  );
}

function FailedQuery({ failed, gallery, n, onOpen }: { failed: Failed; gallery: string; n: number; onOpen(n: number): void }) {
  const { query, neighbours } = failed;
  const asked = useMemo(() => [query], [query]);
  const actions = useMemo(() => ({
    search: (match: Match) => searchByExample({ kind: "id", key: match.id, sign: 1 }),
    open: (match: Match) => {
      onOpen(n);
      change({ open: match.id });
    },
  }), [n, onOpen]);
  const right = neighbours.filter((match) => match.label === query.label).length;
  const name = visible(fileOf(query.path));
  const common = { gallery, lines: NO_LINES, selected: NONE, actions, waits: false };
  return (
    <section class="failed">
      <h3>{visible(query.label ?? "")}: {right || "none"} of {neighbours.length} right</h3>
      <div class="sought">
        <Grid {...common} items={asked} known={null} label={`Query ${name}`} columns={1} word="Query" />
        <Grid {...common} items={neighbours} known={query.label} label={`Neighbours of ${name}`} />
      </div>
    </section>
  );
}

function Metrics({ metrics }: { metrics: Metric[] }) {
  return (
    <Table name="Metrics" head={["metric", "mean", "95 % interval"]} rows={metrics.map(({ name, value, low, high }) => {
      const text = name.startsWith("distance") ? (distance: number) => distance.toFixed(3) : shareText;
      return [name, value === null ? "–" : text(value), low === null || high === null ? "none" : `${text(low)} to ${text(high)}`];
    })} />
  );
}

function Classes({ classes, k }: { classes: ClassFigures[]; k: number }) {
  return (
    <Table name="Classes, worst first" head={["label", "queries", `precision@${k}`, "F1"]} rows={classes.map(({ label, queries, precision, f1 }) => [
      <Label text={label} />, numberText(queries), shareText(precision), shareText(f1),
    ])} />
  );
}

function Confusions({ confused }: { confused: Confusion[] }) {
  if (!confused.length) return null;
  return (
    <Table name="Confusions" head={["label", "taken for", "queries"]} rows={confused.map(({ label, voted, count, queries }) => [
      <Label text={label} />, <Label text={voted} />, `${numberText(count)} of ${numberText(queries)}`,
    ])} />
  );
}

/** A label that leads to its pictures. */
function Label({ text }: { text: string }) {
  const shown = emptyState();
  return <a href={addressOf({ ...shown, gallery: stateNow().gallery, chosen: { ...shown.chosen, label: [text] } })}>{visible(text)}</a>;
}

function Table({ name, head, rows }: { name: string; head: string[]; rows: ComponentChildren[][] }) {
  return (
    <section>
      <h2>{name}</h2>
      <div class="scrolls" role="region" aria-label={name} tabIndex={0}>
        <table class="figures">
          <thead><tr>{head.map((text) => <th key={text} scope="col">{text}</th>)}</tr></thead>
          <tbody>{rows.map((cells, n) => (
            <tr key={n}>{cells.map((content, m) => (m ? <td key={m}>{content}</td> : <th key={m} scope="row">{content}</th>))}</tr>
          ))}</tbody>
        </table>
      </div>
    </section>
  );
}
