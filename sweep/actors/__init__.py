"""The Ray actors that hold backbones and readouts, and the loop that feeds them."""
