"""All subcommands together."""

import click

from sweep import __version__
from sweep.cli import (
    compare,
    control,
    data,
    demo,
    doctor,
    export,
    human,
    models,
    new,
    plan,
    query,
    register,
    report,
    sql,
    study,
    submit,
    verify,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Do two networks look at the same pixels?

    A study file names factors; every combination of their levels is a model. Each model is finetuned, its
    relevance mapped, and every model's input masked with every model's map.

    \b
    sweep demo                           the study that comes with the package
    sweep new    my-faces                a first study of your own pictures
    sweep plan   studies/umist.yaml      what the study comes to
    sweep run    studies/umist.yaml      do it, or go on with it
    sweep status studies/umist.yaml      how far it is
    sweep submit studies/umist.yaml      do it on a cluster, and leave it there
    sweep stop   studies/umist.yaml      let it finish what is in flight, and end
    sweep verify studies/umist.yaml      hold its maps to iNNvestigate
    sweep query  auc                     ask the tables
    sweep sql    studies/umist.yaml      ask them in a DuckDB shell
    sweep models show keras:ResNet50     a network as relevance sees it
    sweep report studies/umist.yaml      see it as one page
    sweep export studies/umist.yaml out  take it to R and other programs
    sweep compare demo demo-paper        two studies side by side
    sweep register studies/umist.yaml    its models, in MLflow's registry
    sweep doctor                         whether this machine can run studies
    sweep human  trials studies/umist.yaml   ask people which faces are alike
    """


for _command in (
    demo.demo,
    new.new,
    plan.plan,
    study.run,
    study.status,
    submit.submit,
    control.stop,
    control.cancel,
    verify.verify,
    query.query,
    sql.sql,
    report.report,
    export.export,
    compare.compare,
    register.register,
    data.data,
    models.models,
    human.human,
    doctor.doctor,
    new.schema,
):
    cli.add_command(_command)
