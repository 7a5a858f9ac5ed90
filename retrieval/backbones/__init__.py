"""A name -> a network, its preprocessing, its fingerprint.

A name is ``mini`` (imgret's own, in the package), a short name, any timm model name,
``hf-hub:user/model``, a folder that holds ``config.json`` and ``model.safetensors`` as timm writes
it, or ``random:`` and a timm name for random weights, whose embeddings show shape and cost and are
a floor to compare with.

spec.py        all that decides embeddings, and its fingerprint
names.py       names and configurations; no network is made
hub.py         files of the Hugging Face hub
packaged.py    imgret's own encoder, from its files alone
network.py     an architecture and weights -> a network, its preprocessing
loader.py      a name -> a backbone, or a network with its classifier
"""

from retrieval.backbones.loader import (
    arguments_of,
    load_backbone,
    load_classifier,
    with_random_weights,
)
from retrieval.backbones.names import (
    DEFAULT_BACKBONE,
    MINI,
    RANDOM,
    SHORT_NAMES,
    architecture_of,
    folder_content,
    folder_fingerprint,
    folder_of,
    input_size,
    resolve_name,
)
from retrieval.backbones.network import patch_size
from retrieval.backbones.packaged import packaged_network, packaged_spec
from retrieval.backbones.spec import Backbone, BackboneSpec, Classifier, Fit

__all__ = [
    "DEFAULT_BACKBONE",
    "MINI",
    "RANDOM",
    "SHORT_NAMES",
    "Backbone",
    "BackboneSpec",
    "Classifier",
    "Fit",
    "architecture_of",
    "arguments_of",
    "folder_content",
    "folder_fingerprint",
    "folder_of",
    "input_size",
    "load_backbone",
    "load_classifier",
    "packaged_network",
    "packaged_spec",
    "patch_size",
    "resolve_name",
    "with_random_weights",
]
