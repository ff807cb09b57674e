"""The columns of every table, declared once, with what each means and its unit.

Fixed columns only: `images` may carry further label columns and `models` one further column per extra
factor, all strings; see `with_extra`.

More than 300 lines: every column stands here, with its words.
"""

from collections.abc import Sequence

import pyarrow as pa


def _field(name: str, kind: pa.DataType, doc: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


_S, _F, _D, _I, _L, _B = pa.string(), pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.bool_()
_T = pa.timestamp("us")
"""A moment in UTC."""

SCHEMAS: dict[str, pa.Schema] = {
    "images": pa.schema(
        [
            _field("image_id", _S, "name of the image, unique in the study"),
            _field("identity", _S, "who is shown"),
            _field("gender", _S, "gender label", nullable=True),
            _field(
                "view_deg", _F, "viewing angle about the vertical axis, degrees, 0 = frontal", nullable=True
            ),
            _field("split", _S, "'train' or 'validation'"),
            _field("height", _I, "height of the original image, pixels"),
            _field("width", _I, "width of the original image, pixels"),
        ]
    ),
    "features": pa.schema(
        [
            _field("pretraining", _S, "level of the factor pretraining"),
            _field("image_id", _S, "name of the image"),
            _field("features", pa.list_(_F), "flattened output of the backbone's last pooling layer"),
        ]
    ),
    "mirrored": pa.schema(
        [
            _field("pretraining", _S, "the frozen part, by name"),
            _field("image_id", _S, "the image that was mirrored, one of the training split"),
            _field("features", pa.list_(_F), "flattened output of the frozen part for its mirror image"),
        ]
    ),
    "models": pa.schema(
        [
            _field("model_id", _S, "readable name: the factor levels joined by '-'"),
            _field("model_key", _S, "hash of everything that determines the weights"),
            _field("pretraining", _S, "level of the factor pretraining: which backbone"),
            _field("task", _S, "level of the factor task: which column of images the readout predicts"),
            _field("seed", _L, "level of the factor seed: initialisation and batch order of the readout"),
            _field("n_classes", _I, "number of classes of the task"),
            _field("epochs", _I, "epochs trained"),
            _field("train_accuracy", _D, "fraction correct on the training split after the last epoch"),
            _field("val_accuracy", _D, "fraction correct on the validation split after the last epoch"),
            _field("weights_uri", _S, "where the readout's weights are stored, relative to the results root"),
            _field("weights_sha256", _S, "SHA-256 of that file"),
            _field(
                "mlflow_run_id",
                _S,
                "the model's MLflow run, null when no tracking server answered",
                nullable=True,
            ),
        ]
    ),
    "epochs": pa.schema(
        [
            _field("model_id", _S, "the model"),
            _field("epoch", _I, "epoch, counted from 1"),
            _field("loss", _D, "mean cross-entropy on the training split, nats"),
            _field("accuracy", _D, "fraction correct on the training split"),
            _field("val_loss", _D, "mean cross-entropy on the validation split, nats"),
            _field("val_accuracy", _D, "fraction correct on the validation split"),
        ]
    ),
    "predictions": pa.schema(
        [
            _field("model_id", _S, "the model"),
            _field("image_id", _S, "the image, unmasked"),
            _field("rank", _I, "1 = the class with the highest logit"),
            _field("class", _S, "the class at that rank"),
            _field("logit", _F, "its pre-softmax activation"),
        ]
    ),
    "relevance": pa.schema(
        [
            _field("model_id", _S, "the model whose decision is explained"),
            _field("image_id", _S, "the image"),
            _field("target_class", _S, "the class whose logit is decomposed"),
            _field("logit", _F, "that logit"),
            _field("max_abs", _F, "largest absolute relevance before normalisation, in units of the logit"),
            _field("height", _I, "rows of the map"),
            _field("width", _I, "columns of the map"),
            _field("map", pa.list_(_F), "relevance / max_abs, row by row, channels summed, in [-1, 1]"),
        ]
    ),
    "randomized": pa.schema(
        [
            _field("model_id", _S, "the model whose weights were permuted"),
            _field("draw", _I, "draw of the permutation, counted from 1"),
            _field("image_id", _S, "the image"),
            _field("target_class", _S, "the class whose logit is decomposed"),
            _field("logit", _F, "that logit of the permuted network"),
            _field("max_abs", _F, "largest absolute relevance before normalisation, in units of the logit"),
            _field("height", _I, "rows of the map"),
            _field("width", _I, "columns of the map"),
            _field("map", pa.list_(_F), "relevance / max_abs, row by row, channels summed, in [-1, 1]"),
        ]
    ),
    "attributions": pa.schema(
        [
            _field("model_id", _S, "the model whose decision is explained"),
            _field("attribution", _S, "level of the factor attribution by which the map was made"),
            _field("image_id", _S, "the image"),
            _field("target_class", _S, "the class whose logit is attributed"),
            _field("logit", _F, "that logit"),
            _field("max_abs", _F, "largest absolute value before normalisation, in the units of the method"),
            _field("height", _I, "rows of the map"),
            _field("width", _I, "columns of the map"),
            _field("map", pa.list_(_F), "map / max_abs, row by row, channels summed, in [-1, 1]"),
        ]
    ),
    "similarity": pa.schema(
        [
            _field("image_id", _S, "the image"),
            _field("model_a", _S, "first model of the unordered pair"),
            _field("model_b", _S, "second model of the unordered pair"),
            _field("pearson", _D, "Pearson's r of the two maps; null where a map is constant", nullable=True),
        ]
    ),
    "masked": pa.schema(
        [
            _field(
                "source_id", _S, "the model whose map made the mask; 'random-k' or 'blocks-k' where none did"
            ),
            _field(
                "control",
                _S,
                "'none' = a mask by the source's map of the very image; else the control that stands beside it",
            ),
            _field("draw", _I, "draw of the control, counted from 1; 1 where nothing is drawn"),
            _field("fill", _S, "what removed pixels became"),
            _field("destination_id", _S, "the model that sees the masked image"),
            _field("percent", _D, "share of pixels removed, percent"),
            _field("image_id", _S, "the image"),
            _field("predicted_class", _S, "class with the highest logit"),
            _field("correct", _B, "whether that is the true class"),
            _field("target_logit", _F, "logit of the true class"),
        ]
    ),
    "verification": pa.schema(
        [
            _field(
                "model_id",
                _S,
                "the model whose stored map was computed again, as 'MODEL.randomized-k' where its weights were permuted",
            ),
            _field("image_id", _S, "the image"),
            _field("composite", _S, "the composite, as JSON"),
            _field("engine", _S, "what computed the stored map"),
            _field("reference", _S, "what computed it again"),
            _field(
                "max_error", _D, "largest difference of the two maps, as a share of the reference's maximum"
            ),
            _field("pearson", _D, "Pearson's r of the two maps; null where one is constant", nullable=True),
        ]
    ),
    "human_trials": pa.schema(
        [
            _field("experiment_id", _S, "hash of all trials and of the pictures that they show"),
            _field("list", _I, "list of trials that an observer works through, counted from 1"),
            _field("position", _I, "place of the trial in its list, counted from 1"),
            _field("block", _I, "block that the trial belongs to, counted from 1; 0 = practice"),
            _field("trial_id", _S, "name of the trial, the same in every list"),
            _field("trial_type", _S, "'practice', 'test' or 'catch'"),
            _field("target", _S, "class of the picture that the two options are compared with"),
            _field("target_image", _S, "image_id of that picture"),
            _field("condition_a", _S, "condition of the models that chose option a"),
            _field("condition_b", _S, "condition of the models that chose option b"),
            _field("option_a", _S, "class of option a: in test trials the rank-2 choice of condition_a"),
            _field("option_b", _S, "class of option b: in test trials the rank-2 choice of condition_b"),
            _field("image_a", _S, "image_id of the picture of option a"),
            _field("image_b", _S, "image_id of the picture of option b"),
            _field("left", _S, "option shown on the left: 'a' or 'b'"),
            _field(
                "expected",
                _S,
                "the option that is right in a catch trial; null in other trials",
                nullable=True,
            ),
            _field(
                "votes_a",
                _I,
                "models of condition_a that chose option a; null but in test trials",
                nullable=True,
            ),
            _field(
                "n_models_a", _I, "models of condition_a that voted; null but in test trials", nullable=True
            ),
            _field(
                "votes_b",
                _I,
                "models of condition_b that chose option b; null but in test trials",
                nullable=True,
            ),
            _field(
                "n_models_b", _I, "models of condition_b that voted; null but in test trials", nullable=True
            ),
            _field(
                "ambiguous",
                _B,
                "whether another class had as many votes in one of the conditions; null but in test trials",
                nullable=True,
            ),
        ]
    ),
    "human_responses": pa.schema(
        [
            _field("experiment_id", _S, "the experiment"),
            _field("session_id", _S, "the session"),
            _field("subject_id", _S, "the observer, under a pseudonym"),
            _field("list", _I, "list of the session"),
            _field("position", _I, "place of the trial in that list"),
            _field("trial_id", _S, "the trial"),
            _field("onset", _D, "when the pictures appeared, seconds from the start of the session"),
            _field("response_time", _D, "from that moment to the answer, seconds"),
            _field("side", _S, "side that was chosen: 'left' or 'right'"),
            _field("choice", _S, "option that was chosen: 'a' or 'b'"),
            _field("source", _S, "'key', 'mouse', 'touch' or 'pen'"),
            _field("hidden", _B, "whether the page was out of sight for a part of the trial"),
            _field("resumed", _B, "whether the session had been interrupted and resumed before this trial"),
            _field("image_px", _D, "width of each picture on the page, CSS pixels"),
            _field(
                "received", _T, "when the collector took the answer, UTC; null without one", nullable=True
            ),
        ]
    ),
    "human_sessions": pa.schema(
        [
            _field("experiment_id", _S, "the experiment"),
            _field("session_id", _S, "the session"),
            _field("subject_id", _S, "the observer, under a pseudonym"),
            _field("list", _I, "list of trials that was worked through"),
            _field("consented", _T, "when the observer agreed to take part, UTC"),
            _field("started", _T, "when the session began, UTC"),
            _field("finished", _T, "when it ended, UTC; null where it did not", nullable=True),
            _field("n_test", _I, "test trials answered"),
            _field("n_catch", _I, "catch trials answered"),
            _field("n_catch_right", _I, "catch trials answered as expected"),
            _field("excluded", _B, "whether the tests leave the session out"),
            _field("reason", _S, "why it is left out; empty where it is not"),
        ]
    ),
}

_ATTRIBUTION = _field("attribution", _S, "level of the factor attribution by which the source's map was made")
SCHEMAS["masked_attributions"] = SCHEMAS["masked"].insert(1, _ATTRIBUTION)

MASKED_CELLS = pa.schema(
    [
        *(
            SCHEMAS["masked"].field(name)
            for name in ("source_id", "control", "draw", "fill", "destination_id", "percent")
        ),
        _field("n", _I, "images evaluated; rows of the same source, destination and percent add up"),
        _field("correct", _I, "how many of them the destination classified correctly"),
    ]
)
"""The table `masked` in studies with `masking.granularity: cell`."""
MASKED_ATTRIBUTIONS_CELLS = MASKED_CELLS.insert(1, _ATTRIBUTION)
"""The table `masked_attributions` there."""


def masked_columns(table: str, *, cells: bool) -> pa.Schema:
    """Columns of `masked` or `masked_attributions`; `cells` where only counts are kept."""
    if not cells:
        return SCHEMAS[table]
    return MASKED_CELLS if table == "masked" else MASKED_ATTRIBUTIONS_CELLS


def with_extra(table: str, columns: Sequence[str]) -> pa.Schema:
    """Schema of `table` with further nullable string columns, in the order given."""
    schema = SCHEMAS[table]
    for column in columns:
        schema = schema.append(_field(column, _S, "label or factor level named by the study", nullable=True))
    return schema


def mismatch(table: str, found: pa.Schema) -> str | None:
    """How the columns of a file differ from what `table` declares, or None where they do not."""
    declared = SCHEMAS[table]
    if table in ("masked", "masked_attributions"):
        declared = masked_columns(table, cells="n" in found.names)
    extra = table in ("images", "models")
    for name in declared.names:
        if name not in found.names:
            return f"has no column '{name}', which the table {table} declares"
    for position, column in enumerate(found):
        if position < len(declared):
            expected = declared.field(position)
        elif extra:
            expected = _field(column.name, _S, "", nullable=True)
        else:
            return f"has a column '{column.name}', which the table {table} does not declare"
        if not column.equals(expected):
            return (
                f"has a column '{column.name}' ({_described(column)}) where the table {table} declares "
                f"'{expected.name}' ({_described(expected)})"
            )
    return None


def _described(column: pa.Field) -> str:
    return f"{column.type}{'' if column.nullable else ' not null'}"
