"""The table of the verbs of ``%kaptain``, with their options."""

from __future__ import annotations

from kaptain_magics.magics import readers
from kaptain_magics.magics.grammar import Command, Option, Positional
from kaptain_magics.magics.options import DETACH, INTO, ON_INTERRUPT, WHERE

_RUN = Positional("RUN", "a run's id, its name, or a model's id", complete="run")
_NEWEST = Positional("RUN", "a run's id, its name, or a model's id; else the newest run", complete="run", needed=False)
_ENDPOINT = Positional("NAME", "the endpoint's name or the model's id", complete="endpoint")
_FOLLOW = "a run is followed with %kaptain attach"
_LAST_LINES = "the last lines are shown with --lines N"
_HABITS_OF_LOGS = {"f": _FOLLOW, "-follow": _FOLLOW, "F": _FOLLOW, "n": _LAST_LINES, "-tail": _LAST_LINES}
_FOLLOWING = (DETACH, ON_INTERRUPT, INTO, *WHERE)

_VERBS = (
    Command(
        "%kaptain runs",
        "List the runs, the newest first; with a name, compare that model's: hyperparameters, metrics, the best first.",
        (Positional("NAME", "a model's id", readers.model_id, "model", needed=False),),
        (
            Option("where", "only those that fit, as 'accuracy > 0.9 and gamma < 0.01'", "CONDITION"),
            Option("last", "only the newest N of them", "N", readers.whole(1, 100_000)),
            Option("by", "metric that orders them, as loss or loss:min", "METRIC", complete="metric"),
            Option("tag", "only those with these tags", "TAGS", readers.listed, many=True),
            Option("limit", "maximum number of rows (20)", "N", readers.whole(1, 100_000)),
            INTO._replace(help="variable of the notebook that gets them; it has to_dataframe()"),
            *WHERE,
        ),
        examples=(
            "%kaptain runs dev/mnist --last 10",
            "%kaptain runs dev/mnist --where \"accuracy > 0.9 and state == 'succeeded'\" --by loss",
        ),
    ),
    Command(
        "%kaptain trials",
        "List the trials of a study, the best first, or write them into a journal file of Optuna.",
        (
            Positional(
                "STUDY", "a study's id, its name, or a model's id; else the newest study", complete="run", needed=False
            ),
        ),
        (
            Option("all", "show all of them"),
            Option("limit", "maximum number of rows (20)", "N", readers.whole(1, 1_000_000)),
            Option("journal", "write or update this file instead", "FILE", complete="file"),
            *WHERE,
        ),
        examples=("%kaptain trials dev/mnist --all", "%kaptain trials dev/mnist --journal study.journal"),
    ),
    Command(
        "%kaptain models",
        "List the models; with a name, its revisions with metrics, sizes and ages.",
        (Positional("NAME", "a model's id", readers.model_id, "model", needed=False),),
        WHERE,
    ),
    Command("%kaptain endpoints", "List the endpoints.", options=WHERE),
    Command(
        "%kaptain logs",
        "Show the log of a run.",
        (_NEWEST,),
        (Option("lines", "show only the last N lines", "N", readers.whole(1, 10_000_000)), *WHERE),
        habits=_HABITS_OF_LOGS,
    ),
    Command(
        "%kaptain attach",
        "Show a run from its first line to its end; an interrupt leaves it running.",
        (_NEWEST,),
        _FOLLOWING,
    ),
    Command("%kaptain stop", "End a run and clean up after it.", (_RUN,), WHERE),
    Command("%kaptain resume", "Continue a study that was interrupted or killed.", (_RUN,), _FOLLOWING),
    Command(
        "%kaptain predict",
        "Query an endpoint; the rest of the line is a Python expression.",
        (_ENDPOINT,),
        (
            Option("proba", "ask for probabilities"),
            Option("output", "ask for this output, such as decision_function", "NAME"),
            Option("timeout", "time to wait for the answer (30s)", "TIME", readers.seconds),
            *WHERE,
        ),
        rest="EXPRESSION",
        examples=("%kaptain predict dev/mnist X_test[:3]",),
    ),
    Command(
        "%kaptain canary",
        "Give the canary of an endpoint a share of the requests.",
        (_ENDPOINT, Positional("PERCENT", "its share, from 0 to 100", readers.percent)),
        WHERE,
    ),
    Command("%kaptain promote", "Give the canary all requests.", (_ENDPOINT,), WHERE),
    Command("%kaptain rollback", "Remove the canary.", (_ENDPOINT,), WHERE),
    Command("%kaptain undeploy", "Take an endpoint down.", (_ENDPOINT,), WHERE),
    Command(
        "%kaptain clean",
        "List what runs and endpoints left behind; --force removes it. Files, figures and trials go only when named.",
        (
            Positional(
                "KINDS", "leftovers, sent, work, figures, trials, between commas", readers.clean_kinds, needed=False
            ),
        ),
        (
            Option("older", "only of runs that ended so long ago: 12h, 30d", "TIME", readers.seconds),
            Option("force", "remove it"),
            *WHERE,
        ),
        examples=("%kaptain clean", "%kaptain clean work,trials --older 30d --force"),
        habits={"f": "removing is asked for with --force", "y": "removing is asked for with --force"},
    ),
    Command(
        "%kaptain diff",
        "Show what differs between two runs: hyperparameters, metrics, options, files, script.",
        (_RUN, Positional("OTHER", "the other run", complete="run")),
        WHERE,
    ),
    Command(
        "%kaptain rerun",
        "Run a training or study again: its script, hyperparameters and options, perhaps with other values.",
        (_RUN,),
        (*_FOLLOWING, Option("dry-run", "show what would be run, and run nothing")),
        values="name=value",
        examples=("%kaptain rerun mnist-job-17921389", "%kaptain rerun dev/mnist gamma=0.002"),
    ),
    Command(
        "%kaptain note",
        "Note something of a run, in the place of the note before; the rest of the line is the text.",
        (_RUN,),
        (Option("remove", "remove the note"), *WHERE),
        rest="[TEXT]",
        examples=("%kaptain note mnist-job-17921389 with the cleaned labels",),
    ),
    Command(
        "%kaptain tag",
        "Tag a run, to find it with %kaptain runs --tag.",
        (_RUN, Positional("TAGS", "words between commas", readers.listed)),
        (Option("remove", "take these tags off"), *WHERE),
        examples=("%kaptain tag mnist-job-17921389 baseline,paper",),
    ),
    Command(
        "%kaptain load",
        "Load a saved model into the notebook, as its library's own object; its files are compared with their sha256.",
        (
            Positional("NAME", "the model's id", readers.model_id, "model"),
            Positional("REVISION", "a revision's id; else what a deployment takes", complete="revision", needed=False),
        ),
        (INTO._replace(help="variable of the notebook that gets it"), *WHERE),
        examples=("clf = %kaptain load dev/mnist", "%kaptain load dev/mnist 1a2b3c4d --into clf"),
    ),
    Command(
        "%kaptain export",
        "Write a model into a folder that serves it anywhere: files, server, lock file, README; or build its image.",
        (
            Positional("NAME", "the model's id", readers.model_id, "model"),
            Positional("FOLDER", "the new folder", complete="file", needed=False),
        ),
        (
            Option("image", "build this image with the Docker engine instead", "IMAGE"),
            Option("revision", "a revision's id; else what a deployment takes", "ID", complete="revision"),
            Option("replace", "replace an earlier export in that folder"),
            *WHERE,
        ),
        examples=("%kaptain export dev/mnist ./mnist", "%kaptain export dev/mnist --image mnist:1"),
    ),
    Command(
        "%kaptain delete",
        "Delete a run, a revision or a whole model, after showing what goes and asking; never what is in use.",
        (
            Positional("KIND", "run, revision or model", choices=("run", "revision", "model")),
            Positional("NAME", "the run's id or name; the model's id", complete="run"),
            Positional("REVISION", "the revision, by its id or the beginning of it", complete="revision", needed=False),
        ),
        (
            Option("dry-run", "show what would be deleted, and delete nothing"),
            Option("yes", "delete without asking"),
            *WHERE,
        ),
        examples=(
            "%kaptain delete run mnist-job-17921389",
            "%kaptain delete revision dev/mnist 1a2b3c4d --yes",
            "%kaptain delete model dev/mnist --dry-run",
        ),
    ),
    Command("%kaptain doctor", "Check whether the target and the storage can be used.", options=WHERE),
    Command(
        "%kaptain show",
        "Show what was run (the exact plan or manifest) and the run's files with their sizes; or one of these files.",
        (_NEWEST, Positional("FILE", "a file that the script has shown or written, to look at", needed=False)),
        WHERE,
        examples=("%kaptain show dev/mnist", "%kaptain show dev/mnist predictions.csv"),
    ),
)
VERBS: dict[str, Command] = {command.name.removeprefix("%kaptain "): command for command in _VERBS}
"""The verbs of ``%kaptain``."""


def overview_usage() -> str:
    """Return the text of ``%kaptain --help``."""
    rows = (f"  {verb:<12}{command.summary}" for verb, command in VERBS.items())
    head = ("%kaptain [VERB ...]", "", "Runs, models and endpoints of all kernels at a glance; with a verb:", "")
    return "\n".join([*head, *rows, "", "%kaptain VERB --help explains a verb.", ""])
