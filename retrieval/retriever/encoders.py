"""Which encoder goes with a gallery: chosen for a new one, found again for an old one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval import backbones
from retrieval.arguments import one_of, whole
from retrieval.backbones import Backbone, BackboneSpec
from retrieval.encoder import Encoder, cache_folder, exported_encoder, open_encoder
from retrieval.errors import ArgumentError, GalleryError
from retrieval.gallery import Settings
from retrieval.gallery.settings import BackboneState
from retrieval.libraries import is_installed
from retrieval.words import (
    DEFAULT_BACKBONE,
    ENGINES,
    FITS,
    LEAST_SIZE,
    MOST_SIZE,
    POOLS,
    VIEWS,
    Engine,
)

if TYPE_CHECKING:
    from retrieval.settings import EmbeddingSettings

LIMITS = "Backbone: mini, imgret's own small encoder, which works offline; "
BETTER = "--backbone mobilenetv2 or a folder of weights finds better matches (docs/mini.md)."
BETTER_WITHOUT_TORCH = "with torch there are better ones (docs/light.md)."


class EncoderChoice:
    """The requested backbone, and the open encoder. Several threads may share it.

    asked: of EmbeddingSettings, those that were given. current: the encoder opened last, or None.
    """

    def __init__(
        self, asked: Mapping[str, Any], engine: Engine | None = None, *, trust: bool = False
    ) -> None:
        self.trust = trust
        self.asked = dict(asked)
        self.engine = engine
        self.current: Encoder | None = None
        self._opening = threading.RLock()

    @property
    def backbone(self) -> str | None:
        """The requested backbone."""
        name: str | None = self.asked.get("backbone")
        return name

    def check_asked(self) -> None:
        """Raise ArgumentError for a wrong value."""
        asked = self.asked
        if "backbone" in asked and not (isinstance(self.backbone, str) and self.backbone):
            raise ArgumentError(
                f"backbone is {self.backbone!r}. Give a name or a folder of weights."
            )
        if self.backbone:
            backbones.check_unambiguous(self.backbone)
        if "size" in asked:
            asked["size"] = whole("size", asked["size"], least=LEAST_SIZE, most=MOST_SIZE)
        for name, words in (("fit", FITS), ("pool", POOLS), ("views", VIEWS)):
            if name in asked:
                one_of(name, asked[name], words)
        if self.engine is not None:
            one_of("engine", self.engine, ENGINES)

    def new(self, old: BackboneState | None = None) -> Encoder:
        """Open the encoder for embedding anew; what was not requested stays as in old."""
        from retrieval.settings import EmbeddingSettings

        before = old.embedding if old else EmbeddingSettings()
        name = str(backbones.parse_name(self.backbone or before.backbone))
        if name != before.backbone:
            before = before.model_copy(update={"size": None})  # each backbone has its own
        wanted = before.model_copy(update={**self.asked, "backbone": name})
        load: Callable[[], Backbone] = partial(_load, wanted)
        spec = backbones.packaged_spec(wanted)
        if spec is None:
            backbone = load()
            spec, load = backbone.spec, lambda: backbone
        self.current = open_encoder(spec, load, engine=self.engine, cache=cache_folder())
        return self.current

    def of(self, settings: Settings, *, ours: bool) -> Encoder:
        """Open the encoder that made a gallery's embeddings, on the engine that made them.

        ours: whether this user wrote the gallery; of a stranger's only mini and what was exported
        here before are used. Raises GalleryError for other backbones, unless they were asked for.
        """
        spec = settings.backbone.spec
        self.check_loadable(settings.backbone, ours=ours)
        with self._opening:
            if self.current is None or self.current.spec != spec:
                self.current = open_encoder(
                    spec,
                    lambda: self._load_again(spec),
                    engine=self.engine or settings.engine,
                    cache=cache_folder(),
                    insist=self.engine is not None,
                )
            return self.current

    def check_loadable(self, stored: BackboneState, *, ours: bool) -> None:
        """Raise GalleryError for a backbone that only an untrusted gallery names."""
        if ours or self.trust or self.backbone or stored.name == DEFAULT_BACKBONE:
            return
        raise GalleryError(
            f"The gallery names the backbone {stored.name}, and you did not write it on this "
            "machine. Give --trust if you know where it comes from."
        )

    def for_queries(self, settings: Settings, *, ours: bool) -> Encoder:
        """Open a gallery's encoder for queries; prefer an export, which needs no torch."""
        spec = settings.backbone.spec
        with self._opening:
            if self.current is not None and self.current.spec == spec:
                return self.current
            if self.engine is None or self.engine.startswith("openvino"):
                engine = self.engine or settings.engine
                self.current = exported_encoder(spec, engine, cache_folder())
            return self.current or self.of(settings, ours=ours)

    def notice(self, *, anew: bool) -> str | None:
        """Say what a user should know of the encoder. anew: whether it made a new gallery."""
        if self.current is None:
            return None
        is_default = self.backbone is None and self.current.spec.name == DEFAULT_BACKBONE
        better = BETTER if is_installed("torch") else BETTER_WITHOUT_TORCH
        said = [LIMITS + better] if anew and is_default else []
        said += [self.current.notice] if self.current.notice else []
        return " ".join(said) or None

    def check(self, stored: BackboneState, gallery: Path) -> None:
        """Raise GalleryError if another backbone than the gallery's was requested."""
        asked = backbones.parse_name(self.backbone or stored.name)
        there, wanted = [], []
        if self.backbone and str(asked) != stored.name:
            if not backbones.is_known(asked):
                raise backbones.unknown(asked.id)
            sha256 = backbones.folder_fingerprint(asked)
            if sha256 is None and asked.folder is not None:
                backbones.load_backbone(asked)  # raises, saying what is wrong with the folder
            if sha256 != stored.weights_sha256:
                there.append(f"the backbone {stored.name}")
                wanted.append(str(asked))
        elif asked.folder is not None:
            sha256 = backbones.folder_fingerprint(asked)
            if sha256 is not None and (
                sha256 != stored.weights_sha256
                or backbones.architecture_of(asked.folder) != stored.architecture
            ):
                there.append(f"other weights of {asked} ({stored.weights_sha256[:12]})")
        for name, value in self.asked.items():
            kept = getattr(stored, name, value)
            if kept != value:
                there.append(f"--{name} {kept}")
                wanted.append(f"--{name} {value}")
        if there:
            instead = f", not with {' and '.join(wanted)}" if wanted else ""
            raise GalleryError(
                f"{gallery} was made with {' and '.join(there)}{instead}. Run `imgret index` with "
                "--reembed to embed its images again, or choose another --gallery."
            )

    def _load_again(self, spec: BackboneSpec) -> Backbone:
        made = BackboneState.of(spec).embedding
        asked = backbones.parse_name(self.backbone or spec.name)
        if backbones.folder_fingerprint(asked) == spec.weights_sha256:
            made = made.model_copy(update={"backbone": str(asked)})
        return _load(made)


def _load(settings: EmbeddingSettings) -> Backbone:
    return backbones.load_backbone(settings.backbone, **settings.model_dump(exclude={"backbone"}))
