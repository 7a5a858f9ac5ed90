"""Networks of classifiers: a recipe's [model] -> a network with timm's interface.

cnn.py         the small CNNs, from a list of layers
classifier.py  a backbone with a declared head, registered with timm
heads.py       a network's last layers, and what they are given
network.py     what a recipe asks for, with its weights; parameters, counted as Keras does
"""

from classify.models.heads import embed_features, head_parameters
from classify.models.network import Created, create_network, layers_of, parameters

__all__ = [
    "Created",
    "create_network",
    "embed_features",
    "head_parameters",
    "layers_of",
    "parameters",
]
