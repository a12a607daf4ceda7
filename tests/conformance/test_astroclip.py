"""AstroCLIP's networks, losses, schedules and preprocessing against numbers from the reference implementation.

`pytest tests/conformance/test_astroclip.py --vectors DIR` runs the vectors of another folder of this kind.
Tolerances are norm of the difference over norm of the reference: 1e-5 for outputs and 1e-4 for gradients.
"""

import numpy as np
import pytest
import torch
from astroclip_vectors import (
    Vector,
    assert_close,
    assert_gradient,
    assert_gradients,
    group,
    image_tower,
    kind_of,
    specformer,
    spectrum_tower,
    vit,
)

from astrom3.encoders.baselines_astroclip import (
    ImageBaseline,
    MorphologyHead,
    SpectrumBaseline,
    few_shot_mlp,
    morphology_loss,
    one_hot_maximum,
    photometry_mlp,
)
from astrom3.encoders.dino_head import DINOHead
from astrom3.encoders.specformer import SpecFormer, spectrum_to_tokens, token_count
from astrom3.encoders.towers_astroclip import ImageTower, SpectrumTower
from astrom3.encoders.vit import VisionTransformer, resize_positions
from astrom3.modalities import crops, cutout
from astrom3.published.astroclip import chunked_blocks
from astrom3.tasks.alignment import alignment_logits, alignment_loss
from astrom3.tasks.masked_spectrum import masked_spectrum_loss
from astrom3.tasks.masks import ChunkMasks
from astrom3.tasks.neighbours import neighbour_regression, one_hot_accuracy, r2, standardise, weighted_f1

FAMILY = "astroclip"


class TestNumbers:
    def kind(name, entry):
        return kind_of(name, CHECKS) is not None

    def test_numbers_of_the_reference(self, vector):
        Vector(vector).check(CHECKS)


def image_preprocessing(vector):
    tensors = vector.tensors
    config = vector.config
    for case in ("collate", "odd", "padded"):
        ours = cutout.network_image(cutout.from_paired(tensors[f"{case}.flux"]), config["crop"][case], config["m"])
        assert_close(ours, tensors[f"{case}.image"], name=case)
    for case in ("hwc", "chw"):
        flux = cutout.channels_first(tensors[f"{case}.flux"], len(config["bands"]))
        ours = cutout.stretch(flux, tuple(config["bands"]), config["m"], config["Q"])
        assert_close(ours.movedim(0, -1), tensors[f"{case}.rgb"], name=case)
    flux = cutout.channels_first(tensors["m_q.flux"])
    assert_close(cutout.stretch(flux, m=0.1, q=5, compat=True).movedim(0, -1), tensors["m_q.rgb"], name="m_q")
    zoo = cutout.galaxy_zoo_image(tensors["zoo.flux"], config["crop"]["zoo"], compat=True)
    assert_close(zoo, tensors["zoo.image"], name="zoo")


def spectrum_preprocessing(vector):
    slices = vector.config["slice_section_length"], vector.config["slice_overlap"]
    for case in sorted({name.split(".")[0] for name in vector.tensors}):
        other = vector.config.get(case)
        sizes = (other["slice_section_length"], other["slice_overlap"]) if other else slices
        ours = spectrum_to_tokens(vector.tensors[f"{case}.spectrum"], *sizes)
        assert_close(ours, vector.tensors[f"{case}.tokens"], name=case)
    for length, count in vector.numbers.get("tokens_per_length", {}).items():
        assert token_count(int(length), *slices) == count
        assert spectrum_to_tokens(torch.ones(1, int(length)), *slices).shape[1] == count


def spectrum_masking(vector):
    tensors = vector.tensors
    for case, config in vector.config["cases"].items():
        masks = ChunkMasks(config["chunks"], config["width"])
        offsets = tensors[f"{case}.offsets"]
        assert masks.bases(config["tokens"]).tolist() == config["chunk_bases"]
        assert [0, masks.offset_count(config["tokens"]) - 1] == config["offset_range"]
        assert torch.equal(masks.bases(config["tokens"]) + offsets, tensors[f"{case}.starts"])
        assert torch.equal(masks.hidden(offsets, config["tokens"]), tensors[f"{case}.zeroed"])
        if f"{case}.tokens" in tensors:
            assert torch.equal(masks.apply(tensors[f"{case}.tokens"], offsets), tensors[f"{case}.masked"])


def specformer_tokens(vector):
    tensors = vector.tensors
    model = specformer(vector.config, group(tensors, "state."))
    embedding = model.encode(tensors["tokens"])
    reconstructions = model.head(embedding)
    assert_close(embedding, tensors["embedding"], name="embedding")
    assert_close(reconstructions, tensors["reconstructions"], name="reconstructions")
    given = (reconstructions * tensors["grad_reconstructions"]).sum()
    (given + (embedding * tensors["grad_embedding"]).sum()).backward()
    assert_gradients(model, group(tensors, "grad."))


def specformer_spectrum(vector):
    tensors = vector.tensors
    model = specformer(vector.config, group(vector.sibling("specformer"), "state."))
    embedding, valid = model.tokens(tensors["spectrum"])
    assert valid.all()
    assert_close(embedding, tensors["embedding"], name="embedding")
    assert_close(model.reconstruct(model.prepare(tensors["spectrum"])), tensors["reconstructions"])
    assert_close(model(tensors["spectrum"]), tensors["mean_embedding"], name="mean")


def specformer_loss(vector):
    tensors = vector.tensors
    model = specformer(vector.config, group(vector.sibling("specformer"), "state."))
    tokens = model.prepare(vector.sibling("specformer_spectrum")["spectrum"])
    masks = ChunkMasks(vector.config["mask_num_chunks"], vector.config["mask_chunk_width"])
    masked = masks.apply(tokens, tensors["offsets"])
    loss = masked_spectrum_loss(model.reconstruct(masked), tokens, masked)
    assert_close(loss, tensors["loss"], name="loss")
    loss.backward()
    assert_gradients(model, group(tensors, "grad."))


def image_encoder(vector):
    tensors = vector.tensors
    model = vit(vector.config, group(tensors, "state."))
    masked = model.features(tensors["image"], tensors["mask"])
    assert_close(masked.cls, tensors["masked.cls"], name="masked.cls")
    assert_close(masked.patches, tensors["masked.patch"], name="masked.patch")
    assert_close(masked.before_norm, tensors["masked.prenorm"], name="masked.prenorm")
    given = (masked.cls * tensors["grad_cls"]).sum()
    (given + (masked.patches * tensors["grad_patch"]).sum()).backward()
    assert_gradients(model, group(tensors, "grad."))
    with torch.no_grad():
        plain = model.features(tensors["image"])
        assert_close(plain.cls, tensors["cls"], name="cls")
        assert_close(plain.patches, tensors["patch"], name="patch")
        assert_close(model.patch_embed(tensors["image"]), tensors["patch_embed"], name="patch_embed")
        assert_close(model.position_free(tensors["image"]), tensors["position_free"], name="position_free")
        count = len({name.split(".")[1] for name in tensors if name.startswith("last_layers.")})
        for index, (cls, patches) in enumerate(model.last_layers(tensors["image"], count)):
            assert_close(cls, tensors[f"last_layers.{index}.cls"])
            assert_close(patches, tensors[f"last_layers.{index}.patch"])
    chunked = vector.numbers.get("chunked")
    if chunked:
        names = chunked_blocks(model.state_dict(), chunked["block_chunks"])
        assert set(names) == set(chunked["names"])


def image_sizes(vector):
    tensors = vector.tensors
    state = group(vector.sibling("vit"), "state.")
    for size in sorted({name.split(".")[0] for name in tensors}):
        model = vit(vector.config, state)
        image = tensors[f"{size}.image"]
        patches = image.shape[2] // model.patch_size, image.shape[3] // model.patch_size
        assert_close(resize_positions(model.pos_embed, *patches), tensors[f"{size}.pos_embed"], name=size)
        features = model.features(image)
        assert_close(features.cls, tensors[f"{size}.cls"], name=size)
        assert_close(features.patches, tensors[f"{size}.patch"], name=size)
        (features.cls * tensors[f"{size}.grad_cls"]).sum().backward()
        assert_gradient(model.pos_embed.grad, tensors[f"{size}.grad.pos_embed"], size)


def positions(vector):
    for size in vector.tensors:
        if size != "table":
            rows, columns = map(int, size.split("x"))
            assert_close(resize_positions(vector.tensors["table"], rows, columns), vector.tensors[size], name=size)


def projection_head(vector):
    tensors = vector.tensors
    model = DINOHead(**vector.config)
    model.load_state_dict(group(tensors, "state."))
    tokens = tensors["input"].requires_grad_()
    output = model(tokens)
    assert_close(output, tensors["output"], name="output")
    (output * tensors["grad_output"]).sum().backward()
    assert_gradient(tokens.grad, tensors["grad_input"], "input")
    assert_gradients(model, group(tensors, "grad."))


def tower(vector):
    build = image_tower if "patch_size" in vector.config["backbone"] else spectrum_tower
    tensors = vector.tensors
    for freeze, prefix in ((True, "grad."), (False, "grad_unfrozen.")):
        model = build(vector.config, group(tensors, "state."), freeze)
        prepared = tensors["input"] if isinstance(model, ImageTower) else model.backbone.prepare(tensors["input"])
        tokens = model.read(prepared)
        assert_close(tokens, tensors["tokens"], name="tokens")
        assert_close(model.attention(tokens), tensors["attention_weights"], name="attention")
        assert_close(model.attend(tokens), tensors["after_norm"], name="after_norm")
        output = model.project(tokens)
        assert_close(output, tensors["output"], name="output")
        (output * tensors["grad_output"]).sum().backward()
        assert_gradients(model, group(tensors, prefix), complete=freeze)
        if freeze:
            assert (
                sum(p.numel() for p in model.parameters() if p.requires_grad) == vector.numbers["parameters_trainable"]
            )
    with torch.no_grad():
        assert_close(model.project(tokens[:1]), tensors["output"][:1], name="batch of one")


def alignment_of(vector):
    tensors = vector.tensors
    for case, scale in vector.config["scale"].items():
        images = tensors[f"{case}.image"].requires_grad_()
        spectra = tensors[f"{case}.spectrum"].requires_grad_()
        assert_close(alignment_logits(images, spectra, scale), tensors[f"{case}.logits"], name=case)
        loss = alignment_loss(images, spectra, scale)
        assert_close(loss, tensors[f"{case}.loss"], name=case)
        loss.backward()
        assert_gradient(images.grad, tensors[f"{case}.grad_image"], case)
        assert_gradient(spectra.grad, tensors[f"{case}.grad_spectrum"], case)
    if "learnable.loss" in tensors:
        logarithm = tensors["learnable.log_scale"].requires_grad_()
        scale = logarithm.exp()
        scale.retain_grad()
        loss = alignment_loss(tensors["fixed.image"].detach(), tensors["fixed.spectrum"].detach(), scale)
        assert_close(loss, tensors["learnable.loss"])
        loss.backward()
        assert_gradient(logarithm.grad, tensors["learnable.grad_log_scale"], "log_scale")
        assert_gradient(scale.grad, tensors["learnable.grad_scale"], "scale")


def whole_model(vector):
    tensors = vector.tensors
    images = image_tower(vector.config_of("image_head"), group(vector.sibling("image_head"), "state."), True)
    spectra = spectrum_tower(vector.config_of("spectrum_head"), group(vector.sibling("spectrum_head"), "state."), True)
    image_embedding = images.project(images.read(tensors["image"]))
    spectrum_embedding = spectra(tensors["spectrum"])
    assert_close(image_embedding, tensors["image_embedding"], name="image")
    assert_close(spectrum_embedding, tensors["spectrum_embedding"], name="spectrum")
    loss = alignment_loss(image_embedding, spectrum_embedding, vector.config["scale"])
    assert_close(loss, tensors["loss"], name="loss")
    loss.backward()
    assert_gradients(images, group(tensors, "grad.image_encoder."))
    assert_gradients(spectra, group(tensors, "grad.spectrum_encoder."))


def augmentations(vector):
    tensors = vector.tensors
    for case in sorted({name.split(".")[0] for name in tensors if name.startswith(("noise", "blur"))}):
        sigma = tensors[f"{case}.sigma_added"]
        true = tensors[f"{case}.sigma_true"]
        final = tensors[f"{case}.sigma_final"]
        assert_close((final**2 - true**2).clamp(min=0).sqrt(), sigma, name=case)
        image = tensors[f"{case}.input"].numpy().copy()
        if f"{case}.noise" in tensors:
            image += tensors[f"{case}.noise"].numpy()
        else:
            crops.blur(image, tuple(sigma.tolist()))
        assert_close(image, tensors[f"{case}.output"], name=case)
    for name, reference in group(tensors, "filter.").items():
        if name != "input":
            assert_close(crops.gaussian_filter(tensors["filter.input"].numpy(), float(name)), reference, name=name)
    for index, drawn in enumerate(vector.numbers["crops"]):
        top, left, size, _ = drawn["top_left_height_width"]
        crop = crops.Crop(top, left, size, drawn["hflip"], drawn["vflip"], drawn["blur"], drawn["noise"])
        noise = tensors.get(f"crops.{index}.noise")
        field = np.zeros((3, size, size), np.float32) if noise is None else noise.numpy()
        ours = crops.crop_image(tensors["crops.image"].numpy(), crop, field)
        assert_close(ours, tensors[f"crops.{index}.output"], name=f"crop {index}")
    for name, spread in (("noise", crops.NOISE), ("blur", crops.BLUR)):
        random = np.random.default_rng(1)
        added = spread.draw_added(random, 20_000)
        np.testing.assert_allclose((added == 0).mean(axis=0), vector.numbers[name]["share_zero"], atol=0.02)
        for band in range(3):
            mean = added[added[:, band] > 0, band].mean()
            assert mean == pytest.approx(vector.numbers[name]["mean_when_positive"][band], rel=0.05)


def nearest_neighbours(vector):
    arrays = {name: tensor.numpy() for name, tensor in vector.tensors.items()}
    train, test = standardise(arrays["train"], arrays["test"])
    assert_close(train, vector.tensors["train_scaled"], name="train")
    assert_close(test, vector.tensors["test_scaled"], name="test")
    targets = arrays["targets_train"]
    count = vector.config["neighbours"]
    redshift = neighbour_regression(arrays["train"], targets[:, 0], arrays["test"], count)
    properties = neighbour_regression(arrays["train"], targets[:, 1:], arrays["test"], count)
    assert_close(redshift, vector.tensors["redshift_prediction"], name="redshift")
    assert_close(properties, vector.tensors["properties_prediction"], name="properties")
    assert r2(arrays["targets_test"][:, 0], redshift) == pytest.approx(vector.numbers["redshift_r2"], rel=1e-5)
    scores = r2(arrays["targets_test"][:, 1:], properties)
    np.testing.assert_allclose(scores, vector.numbers["properties_r2"], rtol=1e-5)


def small_heads(vector):
    tensors = vector.tensors
    for case in ("redshift_image", "four"):
        state = group(tensors, f"state.{case}.")
        widths = [len(weight) for name, weight in state.items() if name.endswith("bias")]
        model = few_shot_mlp(tensors["input"].shape[1], widths[-1], tuple(widths[:-1])).eval()
        model.load_state_dict(state)
        assert_close(model(tensors["input"]), tensors[f"{case}.output"], name=case)
    state = group(tensors, "state.zoo.")
    hidden, inputs = state["layers.0.weight"].shape
    zoo = MorphologyHead(inputs, len(state["layers.9.bias"]), hidden).eval()
    zoo.load_state_dict(state)
    logits = zoo(tensors["input"])
    assert_close(logits.softmax(dim=-1), tensors["zoo.output"], name="zoo")
    loss = morphology_loss(logits, tensors["zoo.target"], compat=True)
    assert_close(loss, tensors["zoo.loss"], name="zoo.loss")
    loss.backward()
    assert_gradients(zoo, group(tensors, "zoo.grad."))
    truth = one_hot_maximum(tensors["zoo_metric.target"]).numpy()
    predicted = one_hot_maximum(tensors["zoo_metric.prediction"]).numpy()
    assert one_hot_accuracy(truth, predicted) == pytest.approx(vector.numbers["zoo_metric_accuracy"])
    assert weighted_f1(truth, predicted) == pytest.approx(vector.numbers["zoo_metric_f1"], rel=1e-5)


def spectrum_baseline(vector):
    tensors = vector.tensors
    model = SpectrumBaseline(vector.config["outputs"]).eval()
    model.load_state_dict(group(tensors, "state."))
    output = model(tensors["input"])
    assert_close(output, tensors["output"], name="output")
    (output * tensors["grad_output"]).sum().backward()
    assert_gradients(model, group(tensors, "grad."))
    assert count(model) == vector.numbers["parameters"]
    assert count(ImageBaseline()) == vector.numbers["parameters_resnet18_four_outputs"]
    assert count(photometry_mlp()) == vector.numbers["parameters_photometry_mlp_four_outputs"]


def full_size(vector):
    numbers = vector.numbers
    with torch.device("meta"):
        backbone = SpecFormer()
        image_backbone = VisionTransformer()
        spectra = SpectrumTower(backbone)
        images = ImageTower(image_backbone)
        head = DINOHead()
    assert count(backbone) == numbers["specformer"]
    assert count(image_backbone) == numbers["vit_large_patch12_144"]
    assert count(head) == numbers["dino_head_65536"]
    assert count(images) - count(image_backbone) == numbers["image_head"]
    assert count(spectra) - count(backbone) == numbers["spectrum_head"]
    assert count(images) + count(spectra) == numbers["astroclip_total"]
    trainable = [p.numel() for m in (images, spectra) for p in m.parameters() if p.requires_grad]
    assert sum(trainable) == numbers["astroclip_trainable_with_frozen_backbones"]


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


CHECKS = {
    "image_preprocessing": image_preprocessing,
    "spectrum_preprocessing": spectrum_preprocessing,
    "spectrum_masking": spectrum_masking,
    "specformer": specformer_tokens,
    "specformer_spectrum": specformer_spectrum,
    "specformer_loss": specformer_loss,
    "vit": image_encoder,
    "vit_sizes": image_sizes,
    "vit_position": positions,
    "dino_head": projection_head,
    "image_head": tower,
    "image_head_equal_width": tower,
    "spectrum_head": tower,
    "clip_loss": alignment_of,
    "astroclip": whole_model,
    "augmentations": augmentations,
    "knn": nearest_neighbours,
    "heads_downstream": small_heads,
    "baseline_spectrum": spectrum_baseline,
    "full_size": full_size,
}
