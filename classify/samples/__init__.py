"""Pictures of rendered industrial parts in five classes: something to try retrieval and recipes on.

folder.py       a folder of pictures, by seed; an interrupted run continues
renderer.py     a class and a random generator -> one picture
fasteners.py    bolts, nuts, washers; cartons.py and bags.py the other two, prints.py their print
meshes.py       surfaces as triangles
materials.py    metals and printed sheets in some light
backgrounds.py  what the parts lie on, independent of the class
scenes.py       how they lie, and from where they are seen
rasters.py      triangles -> pixels
"""

from classify.samples.folder import CLASSES, Samples, make_samples

__all__ = [
    "CLASSES",
    "Samples",
    "make_samples",
]
