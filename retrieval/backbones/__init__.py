"""A name -> a network, its preprocessing, its fingerprint.

A name is ``mini`` (imgret's own, in the package), a short name, any timm model name,
``hf-hub:user/model``, a folder that holds ``config.json`` and ``model.safetensors`` as timm writes
it, or ``random:`` and a timm name for random weights, whose embeddings show shape and cost and are
a floor to compare with.

spec.py            all that decides embeddings, and its fingerprint
known.py           what timm has weights for, from a table
names.py           a name -> where it comes from, and what it is called there
configuration.py   what a folder's config.json and timm say of a network
hub.py             files of the Hugging Face hub
packaged.py        imgret's own encoder, from its files alone
network.py         an architecture and weights -> a network, its preprocessing
loader.py          a name -> a backbone, or a network with its classifier
"""

from retrieval.backbones.configuration import (
    architecture_of,
    folder_content,
    folder_fingerprint,
    input_size,
)
from retrieval.backbones.known import KnownBackbone, alike, known_backbones
from retrieval.backbones.loader import (
    arguments_of,
    load_backbone,
    load_classifier,
    with_random_weights,
)
from retrieval.backbones.names import (
    MINI,
    SHORT_NAMES,
    BackboneName,
    check_unambiguous,
    is_known,
    parse_name,
    unknown,
)
from retrieval.backbones.network import patch_size
from retrieval.backbones.packaged import packaged_network, packaged_spec
from retrieval.backbones.spec import Backbone, BackboneSpec, Classifier

__all__ = [
    "MINI",
    "SHORT_NAMES",
    "Backbone",
    "BackboneName",
    "BackboneSpec",
    "Classifier",
    "KnownBackbone",
    "alike",
    "architecture_of",
    "arguments_of",
    "check_unambiguous",
    "folder_content",
    "folder_fingerprint",
    "input_size",
    "is_known",
    "known_backbones",
    "load_backbone",
    "load_classifier",
    "packaged_network",
    "packaged_spec",
    "parse_name",
    "patch_size",
    "unknown",
    "with_random_weights",
]
