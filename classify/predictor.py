"""A trained run and images -> classes and their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from classify.augmentation import Augmenter
from classify.evaluation import softmax
from classify.recipe import Augmentation
from classify.run import CONFIG, not_a_run
from classify.training.validation import device, score_all
from retrieval import backbones
from retrieval.arguments import Paths, as_paths, path_of, whole
from retrieval.encoder import keep_freed_memory
from retrieval.errors import BackboneError
from retrieval.images import Preprocessing, find_images
from retrieval.loader import Loaded, load_images
from retrieval.plain import Plain
from retrieval.progress import Progress
from retrieval.text import one_sentence

AT_ONCE = 256  # images decoded before they are classified


@dataclass(frozen=True)
class Prediction(Plain):
    """The classes of one image, the most probable first; or why it cannot be used."""

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None

    def first(self, top: int) -> Prediction:
        """Return the same with its most probable classes alone."""
        return replace(self, classes=self.classes[:top], probabilities=self.probabilities[:top])


class Predictor:
    """A classifier, loaded from a run or from another folder of timm that has class names.

    classes: in the order of the scores. preprocessing: of its images. network: in evaluation mode,
    on the device.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        network: nn.Module,
        device: torch.device,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.network = network
        self.device = device
        self._augmenter = Augmenter(Augmentation(), preprocessing)

    @classmethod
    def load(cls, folder: Path | str) -> Predictor:
        """Load the classifier in a folder, onto CUDA if there is a device.

        Tells glibc to keep freed memory, in the whole process (keep_freed_memory()). Raises
        RunError for what holds no network, and BackboneError when its network cannot be used, or
        gives no finite scores.
        """
        folder = path_of("folder", folder)
        if not (folder / CONFIG).is_file():
            raise not_a_run(folder, CONFIG)
        keep_freed_memory()
        loaded = backbones.load_classifier(folder)
        where = device()
        network = loaded.network.to(where).to(memory_format=torch.channels_last)
        name = folder.resolve().name
        predictor = cls(name, loaded.classes, loaded.preprocessing, network, where)
        predictor._check(folder)
        return predictor

    def scores(self, pixels: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Score pixels: (n, size, size, 3) uint8 -> (n, classes) float32, before the softmax."""
        if not len(pixels):
            return np.zeros((0, len(self.classes)), np.float32)
        return score_all(self.network, pixels, self._augmenter, self.device, progress)

    def predict(
        self,
        paths: Paths,
        *,
        top: int = 5,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Predict the top classes of files and of all images in folders; a bad image has its error.

        paths: one or several. Raises DataError when a path does not exist, ArgumentError for top.
        """
        top = whole("top", top)
        files = list(find_images(as_paths(paths)))
        predictions: list[Prediction] = []
        waiting: list[Loaded] = []
        for loaded in load_images(files, self.preprocessing):
            waiting.append(loaded)
            if len(waiting) == AT_ONCE:
                predictions += self._predictions(waiting, top)
                waiting = []
            if progress:
                progress("classifying", len(predictions) + len(waiting), len(files))
        return predictions + self._predictions(waiting, top)

    def predict_pixels(self, pixels: np.ndarray, *, top: int = 5) -> list[Prediction]:
        """Predict the top classes of decoded images: (n, size, size, 3) uint8.

        Raises ArgumentError for top.
        """
        top = whole("top", top)
        return [self._prediction(Path(), each, top) for each in softmax(self.scores(pixels))]

    def _check(self, folder: Path) -> None:
        side = self.preprocessing.size
        try:
            scores = self.scores(np.zeros((1, side, side, 3), np.uint8))
        except (RuntimeError, ValueError, AssertionError) as error:  # torch's and timm's of shapes
            raise BackboneError(
                f"{folder} cannot take images of {side} px, the size in its config.json "
                f"({one_sentence(error)}). Correct config.json, or give another run."
            ) from error
        if scores.shape != (1, len(self.classes)) or not np.isfinite(scores).all():
            raise BackboneError(
                f"{folder} does not give a finite score for each of its {len(self.classes)} "
                "classes, so its weights are damaged. Train again, or give another run."
            )

    def _predictions(self, images: Sequence[Loaded], top: int) -> list[Prediction]:
        pixels = [image.pixels for image in images if image.pixels is not None]
        found = iter(softmax(self.scores(np.stack(pixels))) if pixels else ())
        return [
            Prediction(image.file.path, error=image.error or "it cannot be used")
            if image.pixels is None
            else self._prediction(image.file.path, next(found), top)
            for image in images
        ]

    def _prediction(self, path: Path, probabilities: np.ndarray, top: int) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")[:top]
        return Prediction(
            path,
            tuple(self.classes[n] for n in order),
            tuple(float(probabilities[n]) for n in order),
        )
