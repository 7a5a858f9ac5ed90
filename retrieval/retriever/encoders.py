"""Which encoder goes with a gallery: chosen for a new one, found again for an old one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from retrieval import backbones
from retrieval.arguments import one_of, whole
from retrieval.backbones import DEFAULT_BACKBONE, Backbone, BackboneSpec, Fit
from retrieval.encoder import ENGINES, Encoder, Engine, cache_folder, exported_encoder, open_encoder
from retrieval.errors import GalleryError, QueryError
from retrieval.gallery import Settings
from retrieval.gallery.settings import MOST_SIZE, BackboneState

if TYPE_CHECKING:
    from retrieval.pool import Pool, Views

LIMITS = (
    "Backbone: mini, imgret's own small encoder, which works offline; --backbone mobilenetv2 or a "
    "folder of weights finds better matches (docs/mini.md)."
)


class EncoderChoice:
    """What a user asked for, and the encoder that is open. Several threads may share it.

    current: the encoder opened last, or None.
    """

    def __init__(
        self,
        backbone: str | None,
        size: int | None,
        fit: Fit | None,
        pool: Pool | None,
        views: Views | None,
        engine: Engine | None,
        *,
        trust: bool = False,
    ) -> None:
        self.trust = trust
        self.backbone = backbone
        self.size = size
        self.fit = fit
        self.pool = pool
        self.views = views
        self.engine = engine
        self.current: Encoder | None = None
        self._opening = threading.RLock()

    @property
    def is_asked(self) -> bool:
        """Whether anything was asked for that a gallery may contradict."""
        asked = (self.backbone, self.size, self.fit, self.pool, self.views)
        return any(value is not None for value in asked)

    def check_asked(self) -> None:
        """Raise QueryError for a value that there is not."""
        if self.backbone is not None and not (isinstance(self.backbone, str) and self.backbone):
            raise QueryError(f"backbone is {self.backbone!r}; give a name or a folder of weights.")
        if self.size is not None:
            self.size = whole("size", self.size, most=MOST_SIZE)
        fields = BackboneState.model_fields
        known = {name: get_args(fields[name].annotation) for name in ("fit", "pool", "views")}
        for name, values in (known | {"engine": ENGINES}).items():
            if getattr(self, name) is not None:
                one_of(name, getattr(self, name), values)

    def new(self, old: BackboneState | None = None) -> Encoder:
        """The encoder for embedding anew; what was not asked for stays as it was in old."""
        name = backbones.parse_name(self.backbone or DEFAULT_BACKBONE)
        size, fit = self.size, self.fit or "squash"
        pool, views = self.pool or "own", self.views or "none"
        if old is not None:
            fit, pool = self.fit or old.fit, self.pool or old.pool
            views = self.views or old.views
            if not self.backbone or str(name) == old.name:
                name, size = backbones.parse_name(old.name), self.size or old.size
        asked: dict[str, Any] = {"size": size, "fit": fit, "pool": pool, "views": views}
        load: Callable[[], Backbone] = partial(backbones.load_backbone, name, **asked)
        spec = backbones.packaged_spec(name, **asked)
        if spec is None:
            backbone = load()
            spec, load = backbone.spec, lambda: backbone
        self.current = open_encoder(spec, load, engine=self.engine, cache=cache_folder())
        return self.current

    def of(self, settings: Settings, *, ours: bool) -> Encoder:
        """The encoder that made a gallery's embeddings, on the engine that made them.

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
        """Raise GalleryError for a backbone that only a stranger's gallery names."""
        if ours or self.trust or self.backbone or stored.name == DEFAULT_BACKBONE:
            return
        raise GalleryError(
            f"The gallery names the backbone {stored.name} and was not written by you on this "
            "machine. Give --trust if you know where it comes from, so that it is loaded."
        )

    def for_queries(self, settings: Settings, *, ours: bool) -> Encoder:
        """The same; an export is preferred on any engine, since it needs no torch."""
        spec = settings.backbone.spec
        with self._opening:
            if self.current is not None and self.current.spec == spec:
                return self.current
            if self.engine is None or self.engine.startswith("openvino"):
                engine = self.engine or settings.engine
                self.current = exported_encoder(spec, engine, cache_folder())
            return self.current or self.of(settings, ours=ours)

    def notice(self, *, anew: bool) -> str | None:
        """What a user should know of the encoder in use. anew: whether it made a new gallery."""
        if self.current is None:
            return None
        is_default = self.backbone is None and self.current.spec.name == DEFAULT_BACKBONE
        said = [LIMITS] if anew and is_default else []
        said += [self.current.notice] if self.current.notice else []
        return " ".join(said) or None

    def check(self, stored: BackboneState, gallery: Path) -> None:
        """Raise GalleryError when another backbone was asked for than the gallery's."""
        asked = backbones.parse_name(self.backbone or stored.name)
        differs = []
        if self.backbone and str(asked) != stored.name:
            sha256 = backbones.folder_fingerprint(asked)
            if sha256 is None and asked.folder is not None:
                backbones.load_backbone(asked)  # raises, saying what is wrong with the folder
            if sha256 != stored.weights_sha256:
                differs.append(f"the backbone {stored.name}, not {asked}")
        elif asked.folder is not None:
            sha256 = backbones.folder_fingerprint(asked) or stored.weights_sha256
            if sha256 != stored.weights_sha256:
                differs.append(f"other weights of {asked} ({stored.weights_sha256[:12]})")
        for name in ("size", "fit", "pool", "views"):
            wanted, there = getattr(self, name), getattr(stored, name)
            if wanted and wanted != there:
                differs.append(f"--{name} {there}, not {wanted}")
        if differs:
            raise GalleryError(
                f"{gallery} was made with {' and '.join(differs)}. Run `imgret index` with "
                "--reembed to embed its images again, or choose another --gallery."
            )

    def _load_again(self, spec: BackboneSpec) -> Backbone:
        name, p = backbones.parse_name(self.backbone or spec.name), spec.preprocessing
        if self.backbone and backbones.folder_fingerprint(name) != spec.weights_sha256:
            name = backbones.parse_name(spec.name)
        return backbones.load_backbone(
            name, size=p.size, fit=p.fit, pool=spec.pool, views=spec.views
        )
