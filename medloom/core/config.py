"""A command's options from the command line, a YAML file or Python, all through one dataclass.

Precedence, weakest first: the dataclass, `--size`, `--preset`, `--config`, the command line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.files import read_yaml_text
from medloom.core.help import help_page, show_page
from medloom.core.lookup import closest, look_up
from medloom.core.options import KEYWORDS, Config, Option, build, flag_of, options_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SHIPPED = ("size", "preset")
GIVEN = "_given"
CONFIG = Option("config", Path)
HELP, HELP_ALL, PRINT_CONFIG = "help", "help-all", "print-config"


def configure(cls: type[Config], **values: object) -> Config:
    """Options from Python, with `size`, `preset` and `config` applied as on the command line.

    Args:
        cls: the options' dataclass, e.g. `medloom.recipes.text2image.Config`.
        values: options by name; nested ones as `**{"loop.steps": 100}` or as a mapping `loop={"steps": 100}`. None
            stands for an option that is not given.

    Raises:
        UserError: as on the command line.

    Examples:
        >>> from medloom.recipes.generate import Config
        >>> configure(Config, model="runs/mm", out="images", prompt="null").prompt
        'null'
    """
    flat = _flat(values, options_of(cls))
    given = _read({name: value for name, value in flat.items() if value is not None}, _with_config(cls))
    file = _from_file(cls, given)
    return _built(cls, {**_defaults(cls, given, file), **given}, {*given, *file})


def given_options(config: "DataclassInstance") -> frozenset[str]:
    """The names of the options that a user gave: on the command line, in the file of `--config`, or to `configure`.

    Of options that were made in another way, those that differ from their defaults.
    """
    known: frozenset[str] | None = getattr(config, GIVEN, None)
    if known is not None:
        return known
    options = options_of(type(config)).items()
    return frozenset(name for name, option in options if _value(config, name) != option.default)


def option_flags(config: "DataclassInstance") -> dict[str, str]:
    """Each option of a command by name, as a user writes it."""
    return {name: option.flag for name, option in options_of(type(config)).items()}


def _value(config: object, name: str) -> object:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def parse(cls: type[Config], arguments: Sequence[str], program: str) -> Config:
    """Options from command-line arguments.

    Raises:
        UserError: an unknown option or YAML key (with the one that was meant), a value of another type, a missing
            option.
        SystemExit: status 0 after `--help`, `--help-all` and `--print-config`.
    """
    written = _written(arguments)
    asked = {name for name, _ in written} & {HELP, HELP_ALL, PRINT_CONFIG}
    if asked - {PRINT_CONFIG}:
        settings = _gathered(cls, [entry for entry in written if entry[0] in (*SHIPPED, CONFIG.name)])
        defaults = _defaults(cls, settings, _from_file(cls, settings))
        show_page(help_page(cls, program, defaults, everything=HELP_ALL in asked))
        raise SystemExit(0)
    given = _gathered(cls, [entry for entry in written if entry[0] not in asked])
    file = _from_file(cls, given)
    values = {**_defaults(cls, given, file), **given}
    if asked:
        import yaml

        nested: dict[str, Any] = {}
        for name, value in values.items():
            *groups, last = name.split(".")
            inner = nested
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = plain(value)
        nested.pop(CONFIG.name, None)
        show_page(yaml.safe_dump(nested, sort_keys=False, allow_unicode=True).rstrip())
        raise SystemExit(0)
    return _built(cls, values, {*given, *file})


def plain(value: object) -> Any:
    """Options as JSON values: paths as texts, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def shipped(cls: "type[DataclassInstance]", kind: str) -> dict[str, Traversable]:
    """Name -> YAML file of the sizes or presets that come with a command.

    Args:
        cls: its options; the class variable `settings` names the folder of the files as a dotted package.
        kind: size or preset, with which the files' names begin: `size-tiny.yaml`.
    """
    package: str | None = getattr(cls, "settings", None)
    if package is None:
        return {}
    # By the top package's folder, so that no package on the way is imported.
    top, *folders = package.split(".")
    files = sorted(resources.files(top).joinpath(*folders).iterdir(), key=lambda file: file.name)
    found = (file for file in files if file.name.startswith(f"{kind}-"))
    return {file.name.removeprefix(f"{kind}-").removesuffix(".yaml"): file for file in found}


def _written(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each option as it is written, without its dashes, with the words that follow it.

    Raises:
        UserError: a word before the first option.
    """
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument == "-h":
            found.append((HELP, []))
        elif argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            found.append((name, [value] if equals else []))
        elif found:
            found[-1][1].append(argument)
        else:
            raise UserError(f"{argument!r} is not an option; options begin with --. See --help.")
    return found


def _gathered(cls: "type[DataclassInstance]", written: Sequence[tuple[str, list[str]]]) -> dict[str, object]:
    """The values of the options on a command line, by name."""
    options = _with_config(cls)
    given: dict[str, object] = {}
    repeated: dict[str, list[str]] = {}
    for typed, words in written:
        name = _field(typed)
        positive = options.get(name.removeprefix("no_"))
        if name not in options and name.startswith("no_") and positive is not None and positive.is_switch:
            # `--no-x` is a switch with the word `false`.
            if words:
                raise UserError(f"--{typed} takes no value.")
            name, words = positive.name, ["false"]
        option = _known(name, options)
        if option.setting:
            raise UserError(
                f"{flag_of(option.name)} is a setting, which --size and --preset decide; to change it give a YAML file"
                f" with --config ({option.name.replace('.', ': {')}: ...{'}' * option.name.count('.')})."
            )
        values = option.gather(words)
        if option.repeated or option.pairs:
            values = [*repeated.get(option.name, []), *values]
            repeated[option.name] = values
        given[option.name] = values[0] if option.count is None else values
    return _read(given, options)


def _field(written: str) -> str:
    name = written.replace("-", "_")
    return KEYWORDS.get(name, name)


def _known(name: str, options: Mapping[str, Option], where: str = "") -> Option:
    if name in options:
        return options[name]
    raise UserError(f"{where}unknown option {flag_of(name)}{_better_option(name, options)} See --help-all.")


def _read(values: Mapping[str, object], options: Mapping[str, Option], where: str = "") -> dict[str, object]:
    fields = ((_field(name), value) for name, value in values.items())
    return {name: _known(name, options, where).read(value, where) for name, value in fields}


def _with_config(cls: "type[DataclassInstance]") -> dict[str, Option]:
    return {**options_of(cls), CONFIG.name: CONFIG}


def _defaults(
    cls: "type[DataclassInstance]", given: Mapping[str, object], file: Mapping[str, object]
) -> dict[str, object]:
    """Values of the options that are not given: of the dataclass, the size, the preset and the file of `--config`."""
    options = options_of(cls)
    values = {option.name: option.default for option in options.values() if not option.is_required}
    for kind in SHIPPED:
        chosen, files = {**values, **file, **given}.get(kind), shipped(cls, kind)
        # An option of that name whose value is no text, as `data phantom --size 64`, is an option like any other.
        if isinstance(chosen, str) and files:
            values |= _read_yaml(look_up(files, chosen, kind), options, f"{kind} {chosen}: ")
        elif isinstance(chosen, str) and chosen != values.get(kind):
            raise UserError(f"{flag_of(kind)} {chosen}: this command comes without any {kind}; leave it out.")
    return {**values, **file}


def _from_file(cls: "type[DataclassInstance]", given: Mapping[str, object]) -> dict[str, object]:
    """The values in the file of `--config`."""
    path = given.get(CONFIG.name)
    return _read_yaml(path, options_of(cls), f"--config {path}: ") if isinstance(path, Path) else {}


def _read_yaml(file: Path | Traversable, options: Mapping[str, Option], where: str) -> dict[str, object]:
    try:
        values = read_yaml_text(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"{where}cannot be read: {error}.") from error
    if not isinstance(values, Mapping | None):
        raise UserError(f"{where}give options with their values, as `loop: {{steps: 4000}}`.")
    return _read(_flat(values or {}, options), options, where)


def _flat(values: Mapping[str, object], options: Mapping[str, Option], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one with dotted names; a mapping that is an option's value stays."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and _field(f"{prefix}{name}") not in options:
            flat |= _flat(value, options, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _built(cls: type[Config], values: Mapping[str, object], given: Iterable[str]) -> Config:
    missing = [option.flag for option in options_of(cls).values() if option.name not in values]
    if missing:
        raise UserError(f"{' and '.join(missing)} {'have' if len(missing) > 1 else 'has'} to be given; see --help.")
    config = build(cls, values)
    # Beside the fields: what a user gave is no option itself, and dataclasses.replace drops it.
    object.__setattr__(config, GIVEN, frozenset(given) - {CONFIG.name})
    return config


def _say(words: str, *answers: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(words.split(), answers)


# Option of another tool -> answers; the first one whose option the command has is given.
HABITS: Mapping[str, tuple[str, ...]] = {
    **_say("lr learning_rate base_lr max_lr", "use --loop.learning-rate"),
    **_say("lr_scheduler scheduler lr_schedule", "use --loop.schedule"),
    **_say("lr_warmup_steps warmup_steps", "use --loop.warmup"),
    **_say("epochs epoch num_epochs num_train_epochs max_epochs", "medloom counts steps, not epochs: --loop.steps"),
    **_say("steps max_steps max_train_steps train_steps iterations iters", "use --loop.steps", "use --steps"),
    **_say("num_inference_steps sampling_steps ddim_steps inference_steps", "use --steps"),
    **_say("batch batch_size bs train_batch_size per_device_train_batch_size", "use --loop.batch", "use --batch"),
    **_say("gradient_accumulation_steps grad_accum", "use --loop.accumulate"),
    **_say("gpu gpus gpu_id gpu_ids cuda use_cuda cpu accelerator", "use --device cuda, cpu or auto"),
    **_say("fp16 bf16 amp mixed_precision half", "use --loop.precision auto, bf16, fp16 or fp32"),
    **_say("resolution res img_size imgsz width height", "use --image-size", "use --size"),
    **_say("num_images num_samples n_samples samples num_images_per_prompt", "use --n"),
    **_say("num_patients n_patients subjects", "use --patients"),
    **_say("output output_dir out_dir outdir output_folder save_dir save_path output_path logdir", "use --out"),
    **_say("model_path model_dir checkpoint ckpt weights run", "use --model", "use --from", "use --base"),
    **_say("pretrained pretrained_model pretrained_model_name_or_path base_model", "use --base", "use --model"),
    **_say("init_from resume_from finetune", "use --from"),
    **_say("resume resume_from_checkpoint", "the same command with the same --out resumes its run"),
    **_say("input input_dir dataset dataset_name data_dir data_path train_data_dir csv manifest", "use --data"),
    **_say("image_column image_col path_column", "use --columns path=NAME"),
    **_say("caption_column prompt_column report_column text_column", "use --columns text=NAME"),
    **_say("patient_column patient_id_column", "use --columns patient_id=NAME"),
    **_say("modality_column", "use --columns modality=NAME"),
    **_say("mask_column label_column", "use --columns mask=NAME"),
    **_say("cfg cfg_scale guidance_scale", "use --guidance"),
    **_say("negative_prompt", "use --negative"),
    **_say("workers num_workers dataloader_num_workers threads jobs", "use --workers"),
    **_say("random_seed manual_seed random_state", "use --loop.seed", "use --seed"),
    **_say("val_fraction val_split validation_split", "use --validation"),
    **_say("use_wandb wandb_project report_to", "use --loop.wandb"),
    **_say("use_ema ema_decay", "use --loop.ema"),
    **_say("max_grad_norm grad_clip clip_grad", "it is the setting loop.clip of a YAML file for --config"),
    **_say("save_steps checkpointing_steps save_every", "use --loop.checkpoint-every"),
    **_say("rank lora_rank use_lora", "use --lora"),
    **_say("dry_run", "use --preview"),
}


def _better_option(name: str, options: Mapping[str, Option]) -> str:
    """The end of a sentence about an unknown option: what to give instead, or a full stop where nothing is close.

    Args:
        name: as the user wrote it, without its dashes.
        options: those that the command has, by name.
    """
    typed = name.replace("-", "_")
    if "." in typed and (near := closest(typed, options)):
        return f", did you mean {options[near].flag!r}?"
    for answer in HABITS.get(typed, HABITS.get(typed.rpartition(".")[2], ())):
        if any(re.search(rf"{option.flag}(?![\w.-])", answer) for option in options.values()):
            return f"; {answer}."
    if members := [option.flag for option in options.values() if option.name.startswith(f"{typed}.")]:
        return f"; it is a group of options: {', '.join(members)}."
    if namesakes := [option.flag for option in options.values() if option.name.endswith(f".{typed}")]:
        return f", did you mean {' or '.join(map(repr, namesakes))}?"
    guess = closest(typed, [*options, *KEYWORDS])
    return f", did you mean {options[guess].flag if guess in options else flag_of(guess)!r}?" if guess else "."
