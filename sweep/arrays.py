"""The type of arrays of any shape and kind of number; docstrings say which of both they are."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
