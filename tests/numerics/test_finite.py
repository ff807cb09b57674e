"""Numbers that are not finite are named by their image."""

import numpy as np
import pytest

from sweep.errors import WorkError
from sweep.numerics.finite import check_finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.finfo(np.float32).max])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_the_first_image_and_their_number_are_told(value: float, shape: tuple[int, ...]) -> None:
    values = np.zeros(shape, np.float32)
    check_finite(values, "maps of the model m", "abcd")
    values[(1, *(-1 for _ in shape[1:]))] = values[3] = value
    with pytest.raises(WorkError, match=r"^maps of the model m: not finite for image 'b' \(2 of 4 images\)"):
        check_finite(values, "maps of the model m", "abcd")
