"""`medcore-prune`: one's own checkpoint and data, one command a step."""

import click

from .group import LazyGroup, Listed, run

_PACKAGE = "medcore_prune.commands"
COMMANDS = {
    "phantoms": Listed(f"{_PACKAGE}.phantoms", "Draw phantom images with masks into a folder, to try the tool on"),
    "compress": Listed(
        f"{_PACKAGE}.compress", "Make a model smaller and keep its contour: all steps in one, with one report"
    ),
    "adapt": Listed(f"{_PACKAGE}.adapt", "Fine-tune a checkpoint on your images, as MedSAM was fine-tuned from SAM"),
    "prune": Listed(
        f"{_PACKAGE}.prune", "Remove attention heads and MLP neurons from a model, and write what is left as one file"
    ),
    "inspect": Listed(
        f"{_PACKAGE}.inspect", "Show what is inside a model file: sizes, what is left of every block, its history"
    ),
    "evaluate": Listed(f"{_PACKAGE}.evaluate", "Measure how good the masks of models are, and their contours"),
    "recover": Listed(
        f"{_PACKAGE}.recover", "Fine-tune a pruned model on your images, towards the model that it was cut from"
    ),
    "predict": Listed(f"{_PACKAGE}.predict", "Segment what boxes enclose, in one image or in a folder of images"),
    "card": Listed(f"{_PACKAGE}.card", "Write the model card of a pruned file: what it is, from what, for what images"),
    "export": Listed(f"{_PACKAGE}.export", "Write a model as ONNX, and compare it with PyTorch under ONNX Runtime"),
}
"""The commands, in the order in which they are used."""


@click.group(cls=LazyGroup, listed=COMMANDS)
@click.version_option(package_name="medcore-prune")
@click.option(
    "--plugin",
    multiple=True,
    metavar="FILE|MODULE",
    help="Python code that registers model families, readers of files or folder layouts of your own, before COMMAND.",
)
def cli(plugin: tuple[str, ...]) -> None:
    """Make a SAM or MedSAM smaller: adapt it to your images, prune it, recover
    it, and use what is left.

    Without a model and images of yours, commands work on a small built-in model
    and drawn images ("phantoms"), in seconds. `medcore-prune COMMAND --help`
    says what a command does, with an example.
    """
    if plugin:
        from .._support.registry import load_plugin

        for each in plugin:
            load_plugin(each)


def main() -> None:
    """Run `medcore-prune`."""
    run(cli)


if __name__ == "__main__":
    main()
