"""By what names AP stands in manifests, files and reports; without imports, since reports have to start fast."""

# Of classes, as LVIS writes them: rare, common and frequent.
FREQUENCIES = ("r", "c", "f")
# What the report prints of boxes and of masks.
REPORTED = ("ap", "ap50", "ap75", *(f"ap_{letter}" for letter in FREQUENCIES))
# The AP of every class, beside a manifest.
CLASS_AP = "per_class_ap.csv"
