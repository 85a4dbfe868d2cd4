"""What to answer to an option that a command does not have: habits of other tools, groups, and slips of the pen."""

import re
from collections.abc import Mapping

from medloom.core.lookup import closest
from medloom.core.options import KEYWORDS, Option, flag_of


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
    **_say("fp16 bf16 amp mixed_precision half", "use --loop.precision fp16, bf16 or fp32"),
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


def better_option(name: str, options: Mapping[str, Option]) -> str:
    """The end of a sentence about an unknown option: what to give instead, or a full stop where nothing is close.

    Args:
        name: as the user wrote it, without its dashes.
        options: those that the command has, by name.
    """
    typed = name.replace("-", "_")
    last = typed.rpartition(".")[2]
    for answer in HABITS.get(typed, HABITS.get(last, ())):
        if any(re.search(rf"{option.flag}(?![\w.-])", answer) for option in options.values()):
            return f"; {answer}."
    if members := [option.flag for option in options.values() if option.name.startswith(f"{typed}.")]:
        return f"; it is a group of options: {', '.join(members)}."
    if namesakes := [option.flag for option in options.values() if option.name.endswith(f".{typed}")]:
        return f", did you mean {' or '.join(map(repr, namesakes))}?"
    guess = closest(typed, [*options, *KEYWORDS])
    return f", did you mean {options[guess].flag if guess in options else flag_of(guess)!r}?" if guess else "."
