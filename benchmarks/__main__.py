"""python -m benchmarks NAME; each prints its figures, and writes them as JSON where its --help says so."""

from __future__ import annotations

import typer

from benchmarks import (
    ablation,
    alternatives,
    batchnorm,
    combinations,
    defaults,
    engine,
    extraction,
    losses,
    lvis,
    memory,
    page,
    published,
    reports,
    roi_boxes,
    rois,
    streaming,
    verifying,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for command in (engine.epoch, engine.together, streaming.reading, streaming.streaming, alternatives.alternatives):
    app.command()(command)
app.command("extraction")(extraction.main)
app.command("losses")(losses.main)
app.command("lvis")(lvis.main)
app.command("memory")(memory.main)
app.command("page")(page.main)
app.command("published")(published.main)
app.command("report")(reports.main)
app.command("roi-boxes")(roi_boxes.main)
app.command("rois")(rois.main)
app.command("verifying")(verifying.main)
app.add_typer(ablation.app, name="ablation", help="What Gumbel's gain depends on (docs/reproduction.md).")
app.add_typer(batchnorm.app, name="batchnorm", help="BatchNorm's mode and statistics (docs/reproduction.md).")
app.add_typer(combinations.app, name="combinations", help="The best that our parts can make (docs/reproduction.md).")
app.add_typer(defaults.app, name="defaults", help="The study behind stage two's defaults (docs/defaults.md).")


if __name__ == "__main__":
    app()
