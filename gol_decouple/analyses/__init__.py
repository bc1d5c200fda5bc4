"""The GOL and DropLoss papers' analyses of finished runs, as numbers and as figures (docs/analyses.md)."""
