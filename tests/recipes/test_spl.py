"""SPL's recipe: losses against direct computations, a teacher that stays as it is, and the baseline beside it."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from asuka_modules import checkpoints
from asuka_modules.spl import SPLConfig, SPLGenerator
from training import plain_unet, spl, spl_table
from training.adversary import judge_fixed
from training.data import DataConfig
from training.engine import config
from training.engine.config import ConfigError
from training.engine.loop import RunConfig
from training.masks import MaskConfig
from training.teacher import Teacher, TeacherConfig

pytestmark = pytest.mark.trains

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
TINY = SPLConfig(ch=8, feature_dim=128, dense_blocks=2, dense_layers=2, growth=4, recon_blocks=1, middle_blocks=1)


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory) -> Path:
    """Random weights of a resnet18, in the file that a user would download."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "resnet18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), path)
    return path


@pytest.fixture
def recipe(photos, masks, tmp_path, teacher_weights) -> spl.SPLRecipe:
    return spl.SPLRecipe(
        data=DataConfig(folders=(str(photos),), size=64),
        masks=MaskConfig(objects=str(masks), size=64),
        run=RunConfig(str(tmp_path / "spl"), 2, 2, 1e-3, workers=0, betas=(0.0, 0.9)),
        model=TINY,
        teacher=TeacherConfig(str(teacher_weights), "resnet18"),
    )


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 10:40, 20:50] = 1
    return {"image": torch.rand(2, 3, 128, 128), "mask": mask}  # as large as the teacher sees it


def test_two_steps(recipe, tmp_path):
    trained = spl.train(recipe)
    saved = checkpoints.load(tmp_path / "spl" / "spl.safetensors")["spl"].build()
    assert saved.config == TINY
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in trained.state_dict().items())
    row = (tmp_path / "spl" / "log.csv").read_text().splitlines()[0].split(",")
    assert {"l1", "hole_psnr", "discriminator", "semantic"} <= set(row)
    again = spl.train(replace(recipe, run=replace(recipe.run, out=str(tmp_path / "again"), steps=1)))
    torch.manual_seed(recipe.run.seed)
    start = SPLGenerator(TINY)
    unchanged = [name for name, p in start.named_parameters() if torch.equal(p, again.get_parameter(name))]
    assert unchanged == []


def test_interrupted_run_continues_bit_by_bit(recipe, tmp_path):
    whole = spl.train(recipe)
    first = replace(recipe, run=replace(recipe.run, out=str(tmp_path / "halves"), save_every=1, save_total_limit=9))
    spl.train(first)
    (tmp_path / "halves" / "step-0000002.pt").unlink()
    halves = spl.train(first)
    assert all(torch.equal(value, halves.state_dict()[key]) for key, value in whole.state_dict().items())


def test_loss(recipe, teacher_weights):
    torch.manual_seed(0)
    teacher = Teacher(recipe.teacher)
    objective = spl.SPLObjective(spl.build_generator(recipe, teacher), teacher, recipe).eval()
    generator, discriminator = objective.trained["generator"], objective.trained["discriminator"]
    sample = batch()
    mask = sample["mask"]
    image = torch.nn.functional.avg_pool2d(sample["image"], 2)
    filled, features = generator(image, mask)

    weight = torch.where(mask > 0.5, 3.0, 1.0)
    reconstruction = 10 * ((filled - image).abs() * weight).mean()
    real, fake = discriminator(image).sigmoid(), discriminator(filled).sigmoid()
    adversarial = -fake.log().mean()
    judging = (-real.log().mean() - (1 - discriminator(filled.detach()).sigmoid()).log().mean()) / 2
    network = timm.create_model("resnet18", features_only=True, out_indices=(2,)).eval()
    network.load_state_dict({k: v for k, v in load_file(teacher_weights).items() if k in network.state_dict()})
    mean, std = (torch.tensor(network.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    target = network((sample["image"] - mean) / std)[0]
    cells = torch.where(mask[:, :, ::4, ::4] > 0.5, 4.0, 1.0)
    semantic = ((features - target).abs() * cells).mean()

    with torch.no_grad():  # validation: fooling the discriminator does not count
        torch.testing.assert_close(objective(sample)[0], (reconstruction + semantic).detach())
    loss, values = objective(sample)
    torch.testing.assert_close(values["semantic"], semantic.detach())
    torch.testing.assert_close(values["discriminator"], judging.detach())
    torch.testing.assert_close(loss, reconstruction + adversarial + judging + semantic)

    # one step for both, and yet each network learns from its own loss alone
    loss.backward()
    for network, own in ((generator, reconstruction + adversarial + semantic), (discriminator, judging)):
        expected = torch.autograd.grad(own, list(network.parameters()), retain_graph=True)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-3)


def test_photo_and_mask_of_two_sizes(recipe):
    with pytest.raises(ConfigError, match=r"data\.size is 128 but masks\.size is 64; set both to the same"):
        replace(recipe, data=replace(recipe.data, size=128))


def test_teacher_sees_the_photo_at_twice_the_size(recipe, monkeypatch):
    sizes = []
    look = Teacher.forward
    monkeypatch.setattr(Teacher, "forward", lambda self, image: sizes.append(image.shape[-2:]) or look(self, image))
    spl.train(recipe)
    assert set(sizes) == {(128, 128)}


def test_gradients_reach_what_each_loss_is_for(recipe):
    teacher = Teacher(recipe.teacher)
    objective = spl.SPLObjective(spl.build_generator(recipe, teacher), teacher, recipe)
    objective.train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    loss, _ = objective(batch())
    loss.backward()
    # the attention of a learned region may find nothing, and then its scale has no gradient
    silent = [name for name, p in objective.trained.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in silent if ".sa." not in name] == []
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.network.training
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_generators_step_does_not_teach_the_discriminator():
    discriminator = spl.Discriminator()
    assert sum(p.numel() for p in discriminator.parameters()) == 2_763_776
    assert discriminator(torch.rand(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    before = {key: value.clone() for key, value in discriminator.state_dict().items()}
    judge_fixed(discriminator, image).mean().backward()
    assert image.grad.any()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(torch.equal(before[key], value) for key, value in discriminator.state_dict().items())


def test_without_a_teacher(recipe, caplog):
    generator = spl.train(replace(recipe, teacher=None, run=replace(recipe.run, steps=1)))
    assert "the semantic weight is 0" in caplog.text
    torch.manual_seed(recipe.run.seed)
    assert torch.equal(generator.feature_mapping.weight, SPLGenerator(TINY).feature_mapping.weight)


def test_teachers_that_do_not_fit(recipe, teacher_weights, tmp_path):
    with pytest.raises(ConfigError, match=r"no weights of timm's resnet34; \d+ missing: layer1.2"):
        Teacher(TeacherConfig(str(teacher_weights), "resnet34"))
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth: no such file"):
        Teacher(TeacherConfig("nothing.pth"))
    with pytest.raises(ConfigError, match="feature_dim is 7 but resnet18 has 128 features"):
        spl.build_generator(replace(recipe, model=replace(TINY, feature_dim=7)), Teacher(recipe.teacher))


def test_published_teacher(tmp_path):
    """ASL's TResNet-L in its own file: names of the original code, weights of InPlaceABN with any sign, 9,605 classes."""
    torch.manual_seed(0)
    network = timm.create_model("tresnet_l", num_classes=9605).eval()
    original = {}
    for key, value in network.state_dict().items():
        if key.endswith(".bn.weight"):
            value = torch.randn_like(value)
        original[key.replace(".conv.", ".0.").replace(".bn.", ".1.")] = value
    assert "body.conv1.0.weight" in original
    torch.save({"model": original, "num_classes": 9605, "idx_to_class": {0: "dog"}}, tmp_path / "asl.pth")
    teacher = Teacher(TeacherConfig(str(tmp_path / "asl.pth")))
    assert teacher.channels == 152

    for name, parameter in network.named_parameters():
        if name.endswith(".bn.weight"):
            parameter.data = original[name.replace(".bn.", ".1.")].abs() + 1e-5
    image = torch.rand(1, 3, 64, 64)
    expected = network.body.layer2(network.body.layer1(network.body.conv1(network.body.s2d(image))))
    torch.testing.assert_close(teacher(image), expected.detach())


def test_baseline_and_table(recipe, photos, masks, tmp_path):
    spl.train(recipe)
    unet = spl.train(replace(recipe, unet_width=8, run=replace(recipe.run, out=str(tmp_path / "unet"))))
    again = plain_unet.load(tmp_path / "unet" / "unet.safetensors")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in unet.state_dict().items())
    summary = spl_table.run(
        spl_table.TableRecipe(
            spl=str(tmp_path / "spl" / "spl.safetensors"),
            unet=str(tmp_path / "unet" / "unet.safetensors"),
            photos=str(photos),
            masks=MaskConfig(objects=str(masks), size=64),
            out=str(tmp_path / "table"),
            size=64,
            count=3,
        )
    )
    psnr = summary["hole_psnr"]
    assert summary["difference"]["mean"] == pytest.approx(psnr["SPL"] - psnr["plain U-Net"])
    assert "| plain U-Net |" in (tmp_path / "table" / "results.md").read_text()


def test_miniature_is_small_and_its_baseline_as_large():
    small = config.read(spl.SPLRecipe, CONFIGS / "miniature" / "spl.yaml")
    baseline = config.read(spl.SPLRecipe, CONFIGS / "miniature" / "spl-unet.yaml")
    with torch.device("meta"):
        networks = SPLGenerator(small.model), plain_unet.PlainUNet(baseline.unet_width)
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert 2 * sizes[0] < 8e6  # bytes in fp16
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)
    assert (small.run, small.data) == (replace(baseline.run, out=small.run.out), baseline.data)
