"""`nextscale speed`: how fast a model samples and both stages train, and in what memory."""

from jsonargparse import Namespace

from nextscale.config.speed import MODES, PRECISIONS, SampleConfig, TrainConfig
from nextscale.console.options import Parser
from nextscale.console.report import conclude
from nextscale.speed.command import add_speed_arguments, measured, report_left_out


def add_sample_arguments(parser: Parser) -> None:
    """Adds the options of `speed sample`."""
    add_speed_arguments(parser, SampleConfig)


def measure_sampling(options: Namespace) -> int:
    """Measures how fast a model samples and prints a table."""
    config, report = measured(options, SampleConfig, "nextscale.speed.sampling_speed")
    if not config.modes:
        report_left_out(report, "mode", MODES, "--modes")
    conclude(
        report,
        config.json,
        [
            {
                "mode": row["mode"],
                "batch": str(row["batch"]),
                "seconds an image": f"{row['seconds_per_image']:.4g}",
                "transformer": f"{row['transformer_seconds']:.4g}",
                "decoder": f"{row['decoder_seconds']:.4g}",
                "spread": f"{row['spread']:.0%}",
                "share of peak": f"{row['share_of_peak']:.0%}",
                "tokens as exact": (
                    f"{row['token_agreement']:.2%}" if "token_agreement" in row else ""
                ),
                "peak, GiB": f"{row['peak_memory_bytes'] / 2**30:.2f}" if config.memory else "",
            }
            for row in report["rows"]
        ],
    )
    return 0


def add_train_arguments(parser: Parser) -> None:
    """Adds the options of `speed train`."""
    add_speed_arguments(parser, TrainConfig)


def measure_training(options: Namespace) -> int:
    """Measures how fast both stages train and prints a table."""
    config, report = measured(options, TrainConfig, "nextscale.speed.training_speed")
    if not config.precision:
        report_left_out(report, "precision", PRECISIONS, "--precision")
    conclude(
        report,
        config.json,
        [
            {
                "stage": row["stage"],
                "precision": row["precision"],
                "batch": str(row["batch"]),
                "images/s": f"{row['images_per_second']:.4g}",
                "seconds a step": f"{row['seconds_per_step']:.4g}",
                "spread": f"{row['spread']:.0%}",
                "share of peak": f"{row['share_of_peak']:.0%}",
                "peak, GiB": f"{row['peak_memory_bytes'] / 2**30:.2f}" if config.memory else "",
            }
            for row in report["rows"]
        ],
    )
    return 0


COMMANDS = {
    "sample": (add_sample_arguments, measure_sampling),
    "train": (add_train_arguments, measure_training),
}
