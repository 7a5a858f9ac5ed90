// What several parts of the page use: the address, a measured width, what is asked of the service.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { hasToken, ask, Refusal, type Progress } from "./api";
import { formatState, isStep, parseState, type State } from "./state";

let current = parseState(location.hash);
const listeners = new Set<(state: State) => void>();

function publish(): void {
  for (const listener of listeners) listener(current);
}

addEventListener("popstate", () => {
  current = parseState(location.hash);
  publish();
});

export function stateNow(): State {
  return current;
}

/** Change the state and the address. A value that slides takes no step of its own in the history. */
export function change(patch: Partial<State>): void {
  const next = { ...current, ...patch };
  const text = formatState(next);
  if (text === formatState(current)) return;
  if (isStep(current, next)) {
    history.replaceState({ top: scrollY }, ""); // for who comes back to it
    history.pushState(null, "", text);
  }
  else history.replaceState(history.state, "", text);
  current = next;
  publish();
}

const FRAMES_TRIED = 60; // until what is shown is as high as it was

/** Scroll to where the page stood when this entry of the history was left, once its content is there. */
export function usePlaceBefore(): void {
  useEffect(() => {
    const top = (history.state as { top?: unknown } | null)?.top;
    if (typeof top !== "number" || !top) return;
    let left = FRAMES_TRIED;
    let frame = 0;
    const stop = () => cancelAnimationFrame(frame);
    function step(): void {
      scrollTo({ top: top as number });
      if (Math.abs(scrollY - (top as number)) > 1 && left-- > 0) frame = requestAnimationFrame(step);
    }
    frame = requestAnimationFrame(step);
    addEventListener("wheel", stop, { once: true, passive: true });
    addEventListener("touchstart", stop, { once: true, passive: true });
    return stop;
  }, []);
}

export function addressOf(patch: Partial<State>): string {
  return formatState({ ...current, ...patch });
}

export function useAddress(): State {
  const [state, setState] = useState(current);
  useLayoutEffect(() => {
    setState(current);
    listeners.add(setState);
    return () => void listeners.delete(setState);
  }, []);
  return state;
}

export interface Answer<T> {
  value: T | null;
  error: Refusal | null;
  waits: boolean;
}

/** Ask for something again whenever the key changes; what was known stays until the answer is there. */
export function useAnswer<T>(key: string, asking: (signal: AbortSignal) => Promise<T>): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T>>({ value: null, error: null, waits: true });
  useEffect(() => {
    const control = new AbortController();
    setAnswer((before) => ({ ...before, waits: true }));
    asking(control.signal).then(
      (value) => control.signal.aborted || setAnswer({ value, error: null, waits: false }),
      (error: unknown) => {
        if (!control.signal.aborted) setAnswer({ value: null, error: asRefusal(error), waits: false });
      },
    );
    return () => control.abort();
  }, [key]);
  return answer;
}

const LOOK_AGAIN = 1500;

/** Ask for what the service works out in the background, again until it is done. */
export function useJob<T extends { progress: Progress | null }>(key: string, asking: () => Promise<T>): Answer<T> {
  const [turn, setTurn] = useState(0);
  const answer = useAnswer(`${key} ${turn}`, asking);
  useEffect(() => {
    if (!answer.value?.progress) return;
    const timer = setTimeout(() => setTurn(turn + 1), LOOK_AGAIN);
    return () => clearTimeout(timer);
  }, [answer.value]);
  return answer;
}

export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  return new Refusal(0, error instanceof Error ? error.message : String(error));
}

export function useWidth<E extends HTMLElement>(): [{ current: E | null }, number] {
  const element = useRef<E>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    if (!element.current) return;
    setWidth(element.current.clientWidth);
    const observer = new ResizeObserver((entries) => {
      const entry = entries[0];
      if (entry) setWidth(Math.floor(entry.contentRect.width));
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

/** The address that an <img> takes. With a token the page fetches the picture, since <img> sends none. */
export function useSource(path: string | null): string | undefined {
  const [source, setSource] = useState<string | undefined>(hasToken() || !path ? undefined : path);
  useEffect(() => {
    if (!path || !hasToken() || path.startsWith("blob:")) {
      setSource(path ?? undefined);
      return;
    }
    const control = new AbortController();
    let made = "";
    ask(path, { signal: control.signal }).then((response) => response.blob()).then(
      (blob) => {
        if (control.signal.aborted) return;
        made = URL.createObjectURL(blob);
        setSource(made);
      },
      () => undefined,
    );
    return () => {
      control.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [path]);
  return source;
}

/**
 * The version of the gallery that is shown. A newer one is taken at once where nobody reads below the
 * top, else when the user says so: nothing moves below the eyes.
 */
export function useVersion(newest: string, isBusy: boolean): [string, boolean, () => void] {
  const [version, setVersion] = useState(newest);
  useEffect(() => {
    if (newest !== version && !isBusy && scrollY < 200) setVersion(newest);
  }, [newest, isBusy]);
  return [version, newest !== version, () => setVersion(newest)];
}
