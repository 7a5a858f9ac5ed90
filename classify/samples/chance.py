"""Where all that varies from picture to picture comes from."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator
