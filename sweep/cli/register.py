"""The subcommand that puts a study's models into MLflow's registry."""

from pathlib import Path

import click

from sweep.cli.options import open_study, results_option, study_argument


@click.command()
@study_argument
@results_option
def register(study: Path, results: str) -> None:
    """Register a finished study's models in MLflow, under the study's name, each with its id as alias.

    Models that are registered already keep their versions.

    \b
    sweep register studies/demo.yaml
    mlflow models predict -m models:/demo@faces-identity-s1 -i images.json --env-manager local
    """
    plan, _ = open_study(study, results)
    from sweep.tracking import alias_of, register_models, tracking_uri

    versions = register_models(plan, results)
    click.echo(
        f"{len(versions)} of {len(plan.models)} models are registered as {plan.study.name}, for instance"
    )
    for model_id in list(versions)[:3]:
        click.echo(f"  models:/{plan.study.name}@{alias_of(model_id)}")
    click.echo(f"To use them: export MLFLOW_TRACKING_URI={tracking_uri(results)}")
