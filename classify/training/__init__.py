"""A recipe and labelled images -> a run.

trainer.py     what is trained, on what, where; goes on with a run that was interrupted
loop.py        the one loop: phases, epochs, steps
optimiser.py   which layers learn, in which groups, how fast
norms.py       which batch norms learn, and their statistics
precision.py   bfloat16 where it is faster
checkpoint.py  all that a run needs to go on, as one safetensors file
"""

from classify.training.trainer import Trained, train

__all__ = [
    "Trained",
    "train",
]
