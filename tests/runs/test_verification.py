"""What a verification finds: a number that is not finite is the largest error of all."""

import numpy as np
import pyarrow as pa
import pytest

from sweep.runs.verification import Verification
from sweep.storage.schemas import SCHEMAS


def found(*errors: float) -> Verification:
    rows = [
        {
            "model_id": f"m{index}",
            "image_id": "i",
            "composite": "c",
            "engine": "e",
            "reference": "r",
            "max_error": error,
            "pearson": None,
        }
        for index, error in enumerate(errors)
    ]
    return Verification(pa.Table.from_pylist(rows, schema=SCHEMAS["verification"]))


@pytest.mark.parametrize("errors", [(np.nan, 0.5), (0.5, np.nan), (0.1, np.nan, 0.5)])
def test_nan_is_the_largest_error_wherever_it_stands(errors: tuple[float, ...]) -> None:
    assert np.isnan(found(*errors).max_error)
    assert found(*errors).worst == f"m{int(np.isnan(errors).argmax())}, image i"
    assert found(0.1, 0.5, 0.2).max_error == 0.5
    assert found(0.1, 0.5, 0.2).worst == "m1, image i"
