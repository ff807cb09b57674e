"""The study file: the scientific settings of a sweep, checked as a whole before anything runs."""

from sweep.study.attribution import Attribution, LrpAttribution
from sweep.study.finetune import Finetune
from sweep.study.masking import SOURCELESS, Masking
from sweep.study.pretraining import Pretraining, on_pixel_scale
from sweep.study.reading import Study, load_study, parse_study, read_study
from sweep.study.relevance import RelevanceImages
from sweep.study.settings import (
    Cell,
    Dataset,
)

__all__ = [
    "SOURCELESS",
    "Attribution",
    "Cell",
    "Dataset",
    "Finetune",
    "LrpAttribution",
    "Masking",
    "Pretraining",
    "RelevanceImages",
    "Study",
    "load_study",
    "on_pixel_scale",
    "parse_study",
    "read_study",
]
