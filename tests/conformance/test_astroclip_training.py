"""AstroCLIP's image pre-training against the reference: losses, centres, masks, schedules and two whole steps."""

import random

import numpy as np
import pytest
import torch
from astroclip_vectors import Vector, assert_close, assert_gradient, assert_gradients, group, kind_of, plain_names

from astrom3.encoders.dino_head import DINOHead
from astrom3.encoders.vit import VisionTransformer
from astrom3.tasks.dino import (
    Centre,
    dino_loss,
    ibot_loss,
    koleo_loss,
    patch_weights,
    sinkhorn_targets,
    update_teacher,
)
from astrom3.tasks.masks import BlockMasks, crop_masks
from astrom3.tasks.schedules_astroclip import (
    DistillationRecipe,
    StepSettings,
    multipliers,
    parameter_groups,
    set_rates,
    warmup_cosine_rate,
)
from astrom3.tasks.self_distillation import (
    Branch,
    Centres,
    Crops,
    Orders,
    Weights,
    clip_gradients,
    distillation_losses,
)

FAMILY = "astroclip"
SCHEDULE = 1e-12
FLOOR_DIVISOR = 500  # of the learning rate that the file of the spectra meant


class TestTraining:
    def kind(name, entry):
        return kind_of(name, CHECKS) is not None

    @pytest.mark.slow
    def test_numbers_of_the_reference(self, vector):
        Vector(vector).check(CHECKS)


def class_losses(vector):
    config, tensors = vector.config, vector.tensors
    centre = Centre(config["prototypes"], config["center_momentum"])
    temperature = config["student_temperature"]
    for step, teacher_temperature in enumerate(config["teacher_temperature"]):
        case = group(tensors, f"step{step}.")
        assert_close(centre.value + 1, case["center_used"] + 1, name="centre")
        target = centre.targets(case["teacher"], teacher_temperature)
        assert_close(target, case["teacher_probability"], name="target")
        local = case["student_local"].requires_grad_()
        seen = case["student_global"].requires_grad_()
        loss_local = dino_loss(local.chunk(config["local_crops"]), target.chunk(2), temperature)
        loss_global = dino_loss([seen], [target], temperature)
        assert_close(loss_local, case["loss_local"], name="local")
        assert_close(loss_global, case["loss_global"], name="global")
        (loss_local + loss_global).backward()
        assert_gradient(local.grad, case["grad_local"], "local")
        assert_gradient(seen.grad, case["grad_global"], "global")
        centre.update(case["teacher"].mean(dim=0))
    assert_close(centre.value, tensors["center_after"], name="centre after")
    targets = sinkhorn_targets(tensors["sinkhorn.teacher"], config["sinkhorn_temperature"])
    reference = tensors["sinkhorn.probability"]
    if reference.isfinite().all():
        assert_close(targets, reference, name="sinkhorn")
    else:  # the reference's exponential overflowed; ours must still be probabilities
        assert_close(targets.sum(dim=1), torch.ones(len(targets)), name="sinkhorn")


def patch_losses(vector):
    config, tensors = vector.config, vector.tensors
    centre = Centre(config["prototypes"], config["center_momentum"], per_patch=True)
    for step, teacher_temperature in enumerate(config["teacher_temperature"]):
        case = group(tensors, f"step{step}.")
        assert_close(centre.value + 1, case["center_used"] + 1, name="centre")
        target = centre.targets(case["teacher"], teacher_temperature)
        assert_close(target, case["teacher_probability"], name="target")
        weight = patch_weights(case["mask"])
        assert_close(weight, case["weight"], name="weight")
        student = case["student"].requires_grad_()
        loss = ibot_loss(student, target, weight, config["crops"], config["student_temperature"])
        assert_close(loss, case["loss"], name="loss")
        loss.backward()
        assert_gradient(student.grad, case["grad_student"], "student")
        centre.update(case["teacher"].mean(dim=0))
    assert_close(centre.value, tensors["center_after"], name="centre after")


def spread_losses(vector):
    tensors = vector.tensors
    for case in sorted({name.split(".")[0] for name in tensors}):
        tokens = tensors[f"{case}.input"].requires_grad_()
        loss = koleo_loss(tokens)
        assert_close(loss, tensors[f"{case}.loss"], name=case)
        if f"{case}.grad_input" in tensors:
            loss.backward()
            assert_gradient(tokens.grad, tensors[f"{case}.grad_input"], case)


def averaging(vector):
    tensors = vector.tensors
    for index, momentum in enumerate(vector.config["momenta"]):
        reference = group(tensors, f"momentum{index}.")
        teacher = [tensors[f"teacher.{name}"].clone() for name in reference]
        update_teacher(teacher, [tensors[f"student.{name}"] for name in reference], momentum)
        for ours, name in zip(teacher, reference, strict=True):
            assert_close(ours, reference[name], name=name)


class Recorder(random.Random):
    """Python's generator that notes what was asked of it."""

    def __init__(self, seed):
        super().__init__(seed)
        self.calls = []

    def uniform(self, low, high):
        value = super().uniform(low, high)
        self.calls.append(["uniform", low, high, value])
        return value

    def randint(self, low, high):
        value = super().randint(low, high)
        self.calls.append(["integer", low, high, value])
        return value


def block_masks(vector):
    config, tensors = vector.config, vector.tensors
    rows, columns = config["grid"]
    blocks = BlockMasks(rows, columns, config["min_patches"], config["max_patches"], config["aspect"][0])
    seeds = tensors["seeds"].tolist()
    for index, (seed, wanted) in enumerate(zip(seeds, tensors["wanted"].tolist(), strict=True)):
        generator = Recorder(seed)
        mask = blocks.draw(generator, wanted)
        assert np.array_equal(mask, tensors["masks"][index].numpy()), index
        if index < len(vector.numbers["draws"]):  # the manifest has those of the first masks
            assert generator.calls == vector.numbers["draws"][index]
    collate = config["collate"]
    masks = crop_masks(
        random.Random(collate["seed"]),
        2 * collate["images"],
        blocks,
        collate["mask_probability"],
        tuple(collate["ratio"]),
    )
    assert torch.equal(masks, tensors["collate.masks"])
    assert torch.equal(masks.flatten().nonzero().flatten(), tensors["collate.mask_indices"])
    assert torch.equal(patch_weights(masks), tensors["collate.weight"])
    assert int(masks.sum()) == vector.numbers["collate_masked_patches"]


def schedules(vector):
    config, tensors = vector.config, vector.tensors
    published = config["astrodino"]
    recipe = DistillationRecipe(
        lr=published["lr"], iterations_per_epoch=published["iterations_per_epoch"], epochs=published["epochs"]
    )
    check_recipe(recipe, tensors["astrodino.iteration"].tolist(), group(tensors, "astrodino."))
    small = {name: value for name, value in config["small"].items() if not isinstance(value, list)}
    pairs = {name: tuple(value) for name, value in config["small"].items() if isinstance(value, list)}
    length = len(tensors["small.lr"])
    check_recipe(DistillationRecipe(**small, **pairs), range(length), group(tensors, "small."))

    check_rates(tensors["alignment.lr"], tensors["alignment.step"], 1e-4, 1000, 10_000)
    check_rates(tensors["alignment_real_floor.lr"], tensors["alignment.step"], 1e-4, 1000, 10_000, 1e-4 / FLOOR_DIVISOR)
    check_rates(tensors["specformer.lr"], tensors["specformer.step"], 1e-5, 2000, 500_000)
    check_rates(tensors["small_cosine.lr"], torch.arange(len(tensors["small_cosine.lr"])), 1e-3, 5, 20, 1e-5)
    check_rates(tensors["no_warmup.lr"], torch.arange(len(tensors["no_warmup.lr"])), 1e-3, 0, 12)


def check_recipe(recipe, iterations, reference):
    settings = [recipe.at(iteration) for iteration in iterations]
    for name in ("lr", "last_layer_lr", "weight_decay", "momentum", "teacher_temperature"):
        ours = torch.tensor([getattr(step, name) for step in settings], dtype=torch.float64)
        assert_close(ours, reference[name], SCHEDULE, name)


def check_rates(reference, steps, lr, warmup, total, floor=0.0):
    ours = [warmup_cosine_rate(step, lr, warmup, total, floor) for step in steps.tolist()]
    assert_close(torch.tensor(ours, dtype=torch.float64), reference, SCHEDULE)


def layer_multipliers(vector):
    config = vector.config
    decay, patch = config["layerwise_decay"], config["patch_embed_lr_mult"]
    for part in ("vit_plain", "vit_chunked", "head"):
        for name, reference in vector.numbers[part].items():
            ours = multipliers(name, config["depth"], decay, patch)
            assert ours.lr_multiplier == pytest.approx(reference["lr_multiplier"], rel=SCHEDULE), name
            assert ours.wd_multiplier == reference["wd_multiplier"], name
            assert ours.last_layer == reference["last_layer"], name


def branch(config, state):
    backbone = VisionTransformer(
        img_size=config["global_crop"],
        patch_size=config["patch_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        drop_path=config["drop_path"],
    )
    head = DINOHead(
        config["embed_dim"],
        config["prototypes"],
        hidden_dim=config["head_hidden"],
        bottleneck_dim=config["head_bottleneck"],
    )
    built = Branch(backbone, head)
    built.load_state_dict(plain_names(state))
    return built


def whole_steps(vector):
    config, tensors = vector.config, vector.tensors
    start = vector.sibling("astrodino_step") if not group(tensors, "state.student.") else tensors
    student = branch(config, group(start, "state.student.")).train()
    teacher = branch(config, group(start, "state.teacher.")).eval().requires_grad_(False)
    centres = Centres(config["prototypes"])
    groups = parameter_groups(
        student.named_parameters(), config["depth"], config["layerwise_decay"], config["patch_embed_lr_mult"]
    )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999))
    for step, last_layer_lr in enumerate(config["last_layer_lr"]):
        given = group(tensors, f"step{step}.")
        crops = Crops(given["global_crops"], given["local_crops"], given["masks"])
        orders = orders_of(given)
        weights = Weights(koleo=config["koleo_weight"])
        losses = distillation_losses(student, teacher, crops, centres, config["teacher_temperature"], weights, orders)
        for name, logged in LOGGED.items():
            assert_close(losses[name], given[logged], name=f"step {step} {logged}")
        optimizer.zero_grad()
        losses["loss"].backward()
        if step == 0:
            assert_gradients(student, group(tensors, "grad."))
        norms = clip_gradients([student.backbone, student.dino_head], config["clip"])
        for norm, reference in zip(norms, vector.numbers[f"gradient_norms_step{step}"].values(), strict=True):
            assert float(norm) == pytest.approx(reference, rel=1e-5)
        settings = StepSettings(config["lr"], last_layer_lr, config["weight_decay"], config["momentum"], 0.0)
        set_rates(optimizer, settings)
        optimizer.step()
        update_teacher(teacher.parameters(), student.parameters(), config["momentum"])
    assert_close(centres.dino.value, tensors["dino_center_after"], name="centre")
    assert_close(centres.ibot.value, tensors["ibot_center_after"], name="centre of patches")
    for role, module in (("student", student), ("teacher", teacher)):
        check_weights(module, group(tensors, f"after.{role}."))


LOGGED = {
    "loss/dino_local": "dino_local_crops_loss",
    "loss/dino_global": "dino_global_crops_loss",
    "loss/koleo": "koleo_loss",
    "loss/ibot": "ibot_loss",
}


def orders_of(given):
    """Recorded orders: per block the attention branch of global, of local crops, then the MLP branch likewise."""
    drawn = [given[name] for name in sorted(given) if name.startswith("permutation")]
    return Orders(drawn[0::2], drawn[1::2]) if drawn else None


def check_weights(module, reference):
    """Weights after AdamW, but for the key's part of attention biases, whose gradient is rounding noise."""
    state = module.state_dict()
    for name, tensor in plain_names(reference).items():
        ours = state[name]
        if name.endswith("attn.qkv.bias"):
            query, _, value = ours.chunk(3)
            ours = torch.cat([query, value])
            query, _, value = tensor.chunk(3)
            tensor = torch.cat([query, value])
        assert_close(ours, tensor, name=name)


CHECKS = {
    "dino_loss": class_losses,
    "ibot_loss": patch_losses,
    "koleo_loss": spread_losses,
    "teacher_ema": averaging,
    "masks": block_masks,
    "schedules": schedules,
    "layer_multipliers": layer_multipliers,
    "astrodino_step": whole_steps,
    "astrodino_step_drop": whole_steps,
}
