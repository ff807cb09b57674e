"""The Ray actors that hold backbones and readouts, and the loop that feeds them."""

import logging

# Before Ray is imported: in a notebook it asks for packages then that nothing here needs.
logging.getLogger("ray.widgets").setLevel(logging.ERROR)
