// The classes of a picture under the classifier of `--model`, and what in it speaks for the first.

import { useEffect, useState } from "preact/hooks";
import { classify, readHeat } from "./api";
import { useAnswer } from "./hooks";
import { percentText, visible } from "./names";

const SHOWN = 10;

export function Classes() {
  const [picture, setPicture] = useState<Blob | null>(null);
  const [turn, setTurn] = useState(0); // of pictures
  const [isHot, setHot] = useState(true);
  useEffect(() => {
    const take = (event: Event) => choose((event as CustomEvent<Blob>).detail);
    addEventListener("classify", take);
    return () => removeEventListener("classify", take);
  }, []);
  function choose(file: Blob): void {
    setPicture(file);
    setTurn((before) => before + 1);
  }
  return (
    <div class="content">
      <h1>Which class is it?</h1>
      <label class="choose">
        <span>Drop or paste a picture, or click to choose one.</span>
        <input class="unseen" type="file" accept="image/*" onChange={(event) => {
          const file = (event.target as HTMLInputElement).files?.[0];
          if (file) choose(file);
        }} />
      </label>
      {picture && <Classified key={turn} picture={picture} isHot={isHot} onHot={setHot} />}
    </div>
  );
}

function Classified({ picture, isHot, onHot }: { picture: Blob; isHot: boolean; onHot(isHot: boolean): void }) {
  const guesses = useAnswer("classes", () => classify(picture, SHOWN));
  const first = guesses.value?.[0];
  return (
    <>
      <div class="looked">
        <Shown picture={picture} text="The picture" />
        {first && isHot && <Heat picture={picture} label={visible(first.label)} />}
      </div>
      {first && <label class="check"><input type="checkbox" checked={isHot} onChange={() => onHot(!isHot)} /> Show what speaks for the first class</label>}
      {guesses.error && <p class="wrong-text" role="alert">{guesses.error.message}</p>}
      <div class="bars" aria-live="polite">
        {guesses.value?.map(({ label, probability }) => (
          <div class="guess" key={label}>
            <span>{visible(label)}</span>
            <progress value={probability} max={1} aria-label={visible(label)} />
            <span class="number">{percentText(probability)}</span>
          </div>
        ))}
      </div>
    </>
  );
}

/** The picture as the classifier sees it, under colours that tell what speaks for a class (Grad-CAM). */
function Heat({ picture, label }: { picture: Blob; label: string }) {
  const heat = useAnswer("heat", () => readHeat(picture));
  if (heat.error) return <p class="wrong-text" role="alert">{heat.error.message}</p>;
  if (!heat.value) return <p class="soft" role="status">Looking…</p>;
  return <Shown picture={heat.value} text={`What speaks for ${label}`} />;
}

function Shown({ picture, text }: { picture: Blob; text: string }) {
  const [address, setAddress] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(picture);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [picture]);
  return <figure>{address && <img src={address} alt={text} />}<figcaption>{text}</figcaption></figure>;
}
