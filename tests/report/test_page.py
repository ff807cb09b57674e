"""The report page of studies of many shapes: complete, self-contained, and honest about what is impossible."""

from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweep.analysis.queries import run_query
from sweep.human.importing import import_answers
from sweep.human.lists import Design
from sweep.human.simulating import Observers, journal, text
from sweep.human.tables import experiments
from sweep.human.trials import make_trials
from sweep.plan import Plan, make_plan
from sweep.report.answers import answers_of
from sweep.report.page import PAGE, write_report
from sweep.report.sentences import f_test
from sweep.stages import STAGES, all_units, finetune, index_of_study, key_of_study, relevance, with_gaps
from sweep.storage.store import DAMAGED, Store
from tests.report.simulated import simulate
from tests.studies import SmallStudy, sweep, write_small_study


class Parsed(HTMLParser):
    """What a page holds: its elements, its text, and the ids that are used."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


FIGURES = {
    "model_pairs",
    "conv1_kernels",
    "maps_across_models",
    "map_similarity",
    "masked_example",
    "rank2_faces",
    "rank2_agreement",
    "transfer_matrix",
    "control_curves_mean",
    "initialisation_curves_mean",
    "accuracy_curves_mean",
    "auc_matrix_mean",
}


@dataclass(frozen=True)
class Written:
    page: Parsed
    plan: Plan
    store: Store


def report(study: SmallStudy, people: bool = False) -> Written:
    plan = make_plan(study.path)
    store = Store(str(study.path.parent / "results" / plan.study.name))
    simulate(plan, store)
    planned = study.path.read_text()
    study.path.write_text("name: edited-meanwhile\n")
    if people:
        trials = make_trials(
            plan, store, ("first-identity", "second-identity"), Design(lists=2, blocks=1, catch=2)
        ).rows
        answers = study.path.parent / "journal.jsonl"
        answers.write_text(text(journal(trials, 12, Observers(0.9), careless=1)))
        import_answers(store.files, [answers])
    files = write_report(answers_of(plan, store))
    for path, content in files.items():
        assert (Path(store.root) / path).read_bytes() == content
    study.path.write_text(planned)
    return Written(Parsed(files[PAGE].decode()), plan, store)


def shown(page: Parsed) -> set[str]:
    return {str(attributes["id"]) for attributes in page.all("figure")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Written:
    study = write_small_study(tmp_path_factory.mktemp("report"))
    study.path.write_text(study.path.read_text() + "\n# </pre><script>alert(1)</script>\n")
    return report(study, people=True)


def test_a_whole_study_has_every_figure_with_words_for_those_who_cannot_see_it(whole: Written) -> None:
    page = whole.page
    (experiment,) = experiments(whole.store.files)
    figures = FIGURES | {f"human_preference_{experiment}"}
    assert shown(page) == figures
    images = [image for image in page.all("img") if image.get("src")]
    assert len(images) == len(figures)
    for image in images:
        assert len(str(image["alt"])) > 60
        assert any(character.isdigit() for character in str(image["alt"]))


def test_the_study_is_shown_as_it_was_planned(whole: Written) -> None:
    assert whole.plan.source.decode() in whole.page.text
    assert "edited-meanwhile" not in whole.page.text


def test_the_papers_draws_are_as_many_as_the_study_says(tmp_path: Path) -> None:
    study = write_small_study(tmp_path).changed(analysis={"draws": 7})
    plan, store = make_plan(study.path), Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    assert set(answers_of(plan, store).bins["mean"]["n_draws"].to_pylist()) == {7}


def test_every_f_value_of_the_queries_stands_in_the_text(whole: Written) -> None:
    for query in ("anova_initialisation", "anova_source"):
        for row in run_query(query, whole.store.root, index=index_of_study(whole.plan)).to_pylist():
            assert f_test(row) in whole.page.text
    assert key_of_study(whole.plan) in whole.page.text


def test_what_people_prefer_is_told_with_its_test(whole: Written) -> None:
    crossed = run_query("human_preference", whole.store.root, index=index_of_study(whole.plan)).to_pylist()[0]
    assert f"most similar in {100 * crossed['preference']:.1f} % of answers" in whole.page.text
    assert f"t({crossed['df']:.3g}) = {crossed['t']:.3g}" in whole.page.text
    assert crossed["meaning"] in whole.page.text
    assert "What people would choose is not known yet" not in whole.page.text


def test_links_lead_to_places_of_the_page_and_nothing_leads_out_of_it(whole: Written) -> None:
    page = whole.page
    ids = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert str(link["href"]).removeprefix("#") in ids
    for _, attributes in page.elements:
        for name in ("src", "href", "data", "srcset", "action"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:"))
    (policy,) = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy["content"]).startswith("default-src 'none'")


def test_text_from_the_study_is_text_and_never_markup(whole: Written) -> None:
    assert len(whole.page.all("script")) == 1
    assert "</pre><script>alert(1)</script>" in whole.page.text


def test_the_command_writes_the_same_page_again_and_says_where(whole: Written) -> None:
    path = Path(whole.store.root) / PAGE
    before = path.read_bytes()
    path.unlink()
    done = sweep("report", whole.plan.path, cwd=whole.plan.path.parent)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert path.read_bytes() == before
    assert len(before) < 10_000_000


def further_factors_but_one_seed_and_no_random_masks(study: SmallStudy) -> SmallStudy:
    return study.changed(
        factors={
            "task": ["identity"],
            "seed": [1],
            "schedule": {"short": {"epochs": 2}, "long": {"epochs": 6}},
            "pace": {"slow": {"learning_rate": 0.001}, "fast": {"learning_rate": 0.01}},
        },
        masking={"controls": []},
    )


def one_pretraining_and_no_views(study: SmallStudy) -> SmallStudy:
    manifest = study.path.parent / "faces" / "manifest.csv"
    lines = [line.split(",") for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(",".join(line[:3] + line[4:]) for line in lines) + "\n")
    relevance = {"images": {"per_identity": 1}}
    return study.changed(factors={"pretraining": {"first": "npz:first.npz"}}, relevance=relevance)


def two_classes_and_one_level(study: SmallStudy) -> SmallStudy:
    return study.changed(factors={"task": ["gender"]}, masking={"percents": [10]})


def more_conditions_than_fit(study: SmallStudy) -> SmallStudy:
    return study.changed(factors={"length": {"long": {"epochs": 6}, "short": {"epochs": 2}}})


@pytest.mark.parametrize(
    ("change", "absent", "said"),
    [
        (
            further_factors_but_one_seed_and_no_random_masks,
            {"initialisation_curves_mean", "control_curves_mean", "transfer_matrix"},
            [
                "the study has one seed",
                "two seeds are needed",
                "no error degrees of freedom",
                "Controls remove as many pixels: none",
                "the study has no random masks",
                "other pace and schedule",
                "other pace, pretraining and schedule",
            ],
        ),
        (
            one_pretraining_and_no_views,
            {"rank2_agreement"},
            ["the study has one.", "no test: one pretraining only", "6 images get relevance maps"],
        ),
        (
            two_classes_and_one_level,
            {"rank2_faces", "rank2_agreement", "auc_matrix_mean", "transfer_matrix"},
            ["a task of more than two classes", "two masking levels between 0 and 100 percent"],
        ),
        (more_conditions_than_fit, set(), ["first 5 of 8 conditions", "8 of 16 models are drawn", "; and "]),
    ],
)
def test_studies_of_other_shapes_show_what_they_can_and_say_what_they_cannot(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[SmallStudy], SmallStudy],
    absent: set[str],
    said: list[str],
) -> None:
    if change is more_conditions_than_fit:
        monkeypatch.setattr("sweep.report.exhibits.PANELS", 5)
        monkeypatch.setattr("sweep.report.answers.MATRIX_MODELS", 8)
        monkeypatch.setattr("sweep.report.sentences.PAIRS", 3)
    page = report(change(write_small_study(tmp_path))).page
    assert shown(page) == FIGURES - absent
    notes = [attributes["id"] for attributes in page.all("p") if attributes.get("class") == "note"]
    assert set(notes) == absent
    for words in said:
        assert words in page.text


def test_a_study_with_gaps_has_a_report_that_says_first_what_is_missing(small_study: SmallStudy) -> None:
    plan = make_plan(small_study.path)
    store = Store(str(small_study.path.parent / "results" / "small"))
    simulate(plan, store)
    lost = plan.models[2]
    units = [
        finetune.model_units(plan)[lost.id],
        *[unit for place, unit in relevance.units(plan).items() if place[0] == plan.models[0].id],
        STAGES["masking"].units(plan)[-1],
    ]
    store.set_aside((unit.path for unit in units), DAMAGED)
    there = with_gaps(plan, set(store.missing(all_units(plan))))
    simulate(there, store)  # as a run does: pairs around a gap are units of their own
    store.set_aside([units[-1].path, *(unit.path for unit in units[1:-1])], DAMAGED)
    done = sweep("report", small_study.path, cwd=small_study.path.parent)
    assert done.returncode == 0, done.stderr
    text = Parsed((Path(store.root) / PAGE).read_text()).text
    for said in (
        f"1 of 8 models are not there ({lost.id}), nor what is made from them.",
        f"Maps are missing of {plan.models[0].id}, and what is made from them.",
        "1 of 49 units of masking are not there.",
    ):
        assert said in text
        assert text.index(said) < text.index("What was asked")
        assert said in done.stderr
    assert lost.id not in {row["destination_id"] for row in answers_of(plan, store).auc["mean"].to_pylist()}


def test_a_study_without_masks_has_no_report_and_one_line_says_what_is_missing(
    small_study: SmallStudy,
) -> None:
    plan = make_plan(small_study.path)
    store = Store(str(small_study.path.parent / "results" / "small"))
    simulate(plan, store)
    store.set_aside((unit.path for unit in STAGES["masking"].units(plan)), DAMAGED)
    done = sweep("report", small_study.path, cwd=small_study.path.parent)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "units are missing (72 of masked)" in line
    assert "finish it with: sweep run" in line
    assert not (Path(store.root) / "report").exists()
