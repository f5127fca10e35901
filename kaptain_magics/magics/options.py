"""The tables of all commands: every option is written down once and shared by the commands that take it."""

from __future__ import annotations

from kaptain_magics.magics import line_requests, readers
from kaptain_magics.magics.grammar import Command, Option, Positional

NAME = Positional("NAME", "the model's id, such as dev/mnist", readers.model_id, "model")
WHERE = (
    Option(
        "on",
        "where to run, overriding the setting",
        "TARGET",
        readers.target,
        setting="target",
        names=readers.target_names,
    ),
    Option("namespace", "namespace on the cluster", "NAME", setting="namespace", needs="cluster"),
    Option("context", "context in the kubeconfig", "NAME", setting="context", needs="cluster"),
)
_RESOURCES = (
    Option("cpu", "cores, such as 0.5 or 500m", "CORES", field="resources.cpu"),
    Option("memory", "memory, such as 1G or 512Mi", "BYTES", field="resources.memory"),
    Option("gpus", "number of GPUs, whole ones only", "N", readers.whole(0, 1024), field="resources.gpus"),
)
_BASE_IMAGE = Option(
    "base-image",
    "image that runs the work in Docker and on Kubernetes",
    "IMAGE",
    field="image.base_image",
    needs="container images",
)
_IMAGE_NAME = Option(
    "image-name",
    "repository[:tag] to build and push an image to",
    "IMAGE",
    field="image.image_name",
    needs="container images",
)
_REQUIREMENTS = Option(
    "requirements",
    "packages, as numpy,xgboost>=2 or a requirements file",
    "FILE|LIST",
    complete="file",
    convert=line_requests.requirements,
)
_ENV = Option(
    "env",
    "environment variable; NAME alone takes the value it has here",
    "NAME=VALUE",
    readers.environment,
    many=True,
    convert=dict,
)
_SEND = Option(
    "send",
    "variables of the notebook to hand to the script",
    "NAMES",
    readers.variables,
    True,
    complete="variable",
    field="capture.send",
)
_FETCH = Option(
    "fetch",
    "variables of the script to bring back",
    "NAMES",
    readers.variables,
    True,
    complete="own",
    field="capture.fetch",
)
INTO = Option("into", "variable of the notebook that gets the result", "VARIABLE", readers.variable)
DETACH = Option("detach", "return at once; the view stays live")
ON_INTERRUPT = Option(
    "on-interrupt", "what interrupting the cell does", "WHAT", choices=("stop", "detach"), setting="on_interrupt"
)
_WAITING = (DETACH, ON_INTERRUPT, Option("dry-run", "show what would be run, and run nothing"), INTO)
CONTROL = frozenset(option.key for option in (*WHERE, *_WAITING))
"""Options that say where and how a line is carried out, by key; they say nothing of what is run."""

_JOB = (
    Option("file", "a script's file, instead of the cell", "FILE", complete="file"),
    _REQUIREMENTS,
    Option(
        "files",
        "files, folders and patterns, for the script to find beside itself",
        "PATHS",
        readers.listed,
        True,
        complete="file",
        convert=line_requests.paths,
    ),
    Option("isolated", "nothing beside the notebook but what --files names"),
    Option(
        "framework",
        "the model's library; guessed from the imports",
        "NAME",
        complete="framework",
        convert=line_requests.framework,
    ),
    *_RESOURCES,
    Option("timeout", "stop it after this time: 90s, 5m, 2h", "TIME", readers.seconds),
    _ENV,
    Option("args", 'further command line of the script, as "--epochs 3"', "WORDS", readers.words, many=True),
    Option(
        "workers",
        "workers of a distributed training",
        "N",
        readers.whole(1, 10_000),
        needs="distributed training",
    ),
    _BASE_IMAGE,
    _IMAGE_NAME,
    Option(
        "model",
        "variable to save as the model; else the only fitted one",
        "VARIABLE",
        readers.variable,
        complete="own",
        field="capture.model",
    ),
    Option("no-model", "save no model, as for a preparation of data"),
    Option(
        "metric",
        "metrics, from variables of the script",
        "NAME=VARIABLE",
        readers.metrics,
        True,
        complete="own",
        field="capture.metrics",
        convert=dict,
    ),
    _SEND,
)


def _direction(name: str) -> Option:
    help_text = f"{name} the first objective, or these"
    return Option(name, help_text, "METRICS", readers.listed, many=True, complete="metric", bare=True)


TRAIN = Command(
    "%%kaptain_train",
    "Train a model with the cell as the script; as a line, with the rest of its cell, or with --file.",
    (NAME,),
    (*_JOB, _FETCH, *WHERE, *_WAITING),
    values="name=value",
    examples=(
        "%%kaptain_train dev/mnist --model clf --metric accuracy=score gamma=0.001",
        "%kaptain_train dev/mnist --file train.py --cpu 0.5 --memory 1G gamma=0.001 c=1.0",
    ),
)

TUNE = Command(
    "%kaptain_tune",
    "Search the hyperparameters of the model's last script; as a cell, with one name = Domain(...) a line.",
    (NAME,),
    (
        Option("trials", "maximum number of trials (16)", "N", readers.whole(1, 1_000_000)),
        Option("parallel", "trials at the same time (2)", "N", readers.whole(1, 10_000)),
        Option("failed-trials", "failed trials that end the study (4)", "N", readers.whole(1, 1_000_000)),
        Option(
            "objective",
            "metrics, as loss or loss:min; the first one decides, the others are reported",
            "METRICS",
            readers.listed,
            True,
            complete="metric",
        ),
        Option("pareto", "optimize all objectives together; nsga2 does so by itself"),
        Option("goal", "value of the first objective that ends the study", "NUMBER", readers.number),
        _direction("minimize"),
        _direction("maximize"),
        Option("algorithm", "search algorithm, by Katib's or a plug-in's name (random)", "NAME", complete="algorithm"),
        Option(
            "algorithm-setting",
            "a setting of the algorithm",
            "NAME=VALUE",
            readers.pair,
            many=True,
            field="algorithm_settings",
            convert=dict,
        ),
        Option("early-stopping", "rule that ends bad trials early, such as medianstop", "NAME", complete="stopping"),
        Option(
            "early-stopping-setting",
            "a setting of the rule",
            "NAME=VALUE",
            readers.pair,
            many=True,
            field="early_stopping_settings",
            convert=dict,
        ),
        Option("tuner", "what runs the trials: jobs, the target's own (katib), or auto", "NAME", complete="tuner"),
        Option("seed", "seed of the algorithm", "N", readers.whole(0)),
        Option("resume", "continue the model's last study"),
        *_JOB,
        *WHERE,
        *_WAITING,
    ),
    values="name=Domain",
    examples=(
        "%kaptain_tune dev/mnist gamma=Double(1e-4, 1e-3, log=True) c=Double(0.01, 1) --trials 12 --objective accuracy",
        "%kaptain_tune dev/mnist lr=Double(1e-4, 0.1, log=True) --minimize val_loss --algorithm tpe",
        "%kaptain_tune dev/mnist --resume --trials 24",
    ),
)

DEPLOY = Command(
    "%kaptain_deploy",
    "Serve the better of the newest tuned and trained model, by the study's objective; else the newest.",
    (NAME,),
    (
        Option("revision", "a revision, by its id or the beginning of it", "ID", complete="revision"),
        Option(
            "model-uri",
            "a model saved elsewhere: a URI or a folder",
            "URI",
            complete="file",
            convert=line_requests.path_or_uri,
        ),
        Option("trust", "allow a model from elsewhere whose file can run code"),
        Option("protocol", "protocol of the address that is shown (v2)", "VERSION", choices=("v2", "v1")),
        Option("replace", "swap an existing endpoint, without a refused request"),
        Option(
            "canary",
            "share of requests (0 to 100) for it, beside the deployed revision",
            "PERCENT",
            readers.percent,
            field="canary_percent",
        ),
        _REQUIREMENTS,
        Option(
            "signature",
            "inputs and outputs of the model, as JSON",
            "FILE|JSON",
            complete="file",
            field="serving_config.signature",
        ),
        Option(
            "serving",
            "an option of the model server",
            "NAME=VALUE",
            readers.pair,
            many=True,
            field="serving_config",
            convert=dict,
        ),
        *_RESOURCES,
        Option("workers", "server processes of a replica (1)", "N", readers.whole(1, 1000)),
        Option("autoscale", "target for requests in flight per replica (2)", "N", readers.whole(1), needs="replicas"),
        Option("min-replicas", "minimum number of replicas (1)", "N", readers.whole(0, 10_000), needs="replicas"),
        Option("max-replicas", "maximum number of replicas", "N", readers.whole(1, 10_000), needs="replicas"),
        Option("host", "address to listen on (127.0.0.1)", "ADDRESS", needs="address to choose"),
        Option(
            "port",
            "port to listen on (a free one)",
            "N",
            readers.whole(0, 65535),
            needs="address to choose",
        ),
        Option("token", "require a token on this machine too"),
        _ENV,
        Option("timeout", "time to wait until it is ready (5m)", "TIME", readers.seconds),
        _BASE_IMAGE,
        _IMAGE_NAME._replace(needs="images of its own for servers"),
        *WHERE,
        *_WAITING,
    ),
    examples=(
        "%kaptain_deploy dev/mnist --replace --cpu 0.5 --memory 500M",
        "%kaptain_deploy dev/mnist --canary 30",
        "%kaptain_deploy dev/mnist --revision 1a2b3c4d --replace",
    ),
)
