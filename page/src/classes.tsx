// The classes of a picture under the classifier of `--model`.

import { useEffect, useState } from "preact/hooks";
import { classify, type ClassGuess, type Refusal } from "./api";
import { asRefusal } from "./hooks";
import { percentText, visible } from "./names";

const SHOWN = 10;

export function Classes() {
  const [picture, setPicture] = useState<Blob | null>(null);
  const [address, setAddress] = useState("");
  const [guesses, setGuesses] = useState<ClassGuess[]>([]);
  const [error, setError] = useState<Refusal | null>(null);
  useEffect(() => {
    const take = (event: Event) => setPicture((event as CustomEvent<Blob>).detail);
    addEventListener("classify", take);
    return () => removeEventListener("classify", take);
  }, []);
  useEffect(() => {
    if (!picture) return;
    const made = URL.createObjectURL(picture);
    let left = false;
    setAddress(made);
    setError(null);
    setGuesses([]);
    classify(picture, SHOWN).then(
      (found) => left || setGuesses(found),
      (failed: unknown) => left || setError(asRefusal(failed)),
    );
    return () => {
      left = true;
      URL.revokeObjectURL(made);
    };
  }, [picture]);
  return (
    <div class="content">
      <h1>Which class is it?</h1>
      <label class="choose">
        {address ? <img src={address} alt="The picture" /> : null}
        <span>Drop or paste a picture, or click to choose one.</span>
        <input class="unseen" type="file" accept="image/*" onChange={(event) => {
          const file = (event.target as HTMLInputElement).files?.[0];
          if (file) setPicture(file);
        }} />
      </label>
      {error && <p class="wrong-text" role="alert">{error.message}</p>}
      <div class="bars" aria-live="polite">
        {guesses.map(({ label, probability }) => (
          <div class="guess" key={label}>
            <span>{visible(label)}</span>
            <progress value={probability} max={1} aria-label={visible(label)} />
            <span class="number">{percentText(probability)}</span>
          </div>
        ))}
      </div>
    </div>
  );
}
